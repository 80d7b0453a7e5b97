from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy

from bertlab.cli_hardware import check_fsdp1_has_gpus, warn_of_emulated_bfloat16
from bertlab.cli_overlays import UsageError


def trainer(precision: Any) -> Trainer:
    return Trainer(
        accelerator="cpu", devices=1, precision=precision, logger=False, enable_checkpointing=False
    )


def cpu(folder: Path, *flags: str) -> Path:
    file = folder / "cpuinfo"
    file.write_text(f"processor\t: 0\nmodel name\t: some\nflags\t\t: fpu {' '.join(flags)} sse\n")
    return file


def test_warns_of_bfloat16_where_the_cpu_has_none(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"bf16-mixed.*no bfloat16 instructions.*hardware/cpu\.yaml"):
        warn_of_emulated_bfloat16(trainer("bf16-mixed"), cpu(tmp_path, "avx2"))


@pytest.mark.parametrize(
    ("precision", "flags"),
    [("bf16-mixed", ["avx512_bf16"]), ("bf16-true", ["amx_bf16", "avx2"]), ("32-true", ["avx2"])],
)
def test_is_silent_where_nothing_is_emulated(precision: str, flags: list[str], tmp_path: Path) -> None:
    made = trainer(precision)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_emulated_bfloat16(made, cpu(tmp_path, *flags))


def test_is_silent_where_nobody_knows(tmp_path: Path) -> None:
    made = trainer("bf16-mixed")
    other = tmp_path / "arm"
    other.write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_emulated_bfloat16(made, tmp_path / "absent")
        warn_of_emulated_bfloat16(made, other)


@pytest.mark.parametrize(
    ("strategy", "accelerator"),
    [("fsdp", "cpu"), ("fsdp_cpu_offload", CPUAccelerator()), (FSDPStrategy(), "auto")],
)
def test_fsdp1_on_a_cpu_is_refused(strategy: Any, accelerator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        UsageError, match=r"trainer\.strategy: (fsdp|FSDPS).*accelerator is (cpu|CPUA).*fsdp\.yaml"
    ):
        check_fsdp1_has_gpus(strategy, accelerator)


def test_gpus_and_other_ways_of_sharing_are_let_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for accelerator in ("auto", "gpu", "cuda", CUDAAccelerator()):
        check_fsdp1_has_gpus("fsdp", accelerator)
    for strategy in ("auto", "ddp", ModelParallelStrategy()):
        check_fsdp1_has_gpus(strategy, "cpu")

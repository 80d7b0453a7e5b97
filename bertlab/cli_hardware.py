"""What a configuration asks of a machine that cannot do it well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CUDAAccelerator
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.utilities import rank_zero_warn

from bertlab.cli_overlays import UsageError

#: Instructions of x86 that compute in bfloat16, as /proc/cpuinfo names them.
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}


def cpu_has_bfloat16(cpu_information: Path = Path("/proc/cpuinfo")) -> bool | None:
    """Whether an x86 CPU has instructions for bfloat16; None where nobody knows.

    Args:
        cpu_information: names the CPU's instructions; there is none but on Linux, and "flags" in it on x86 only.
    """
    if not cpu_information.is_file():
        return None
    lines = cpu_information.read_text(encoding="utf-8", errors="replace").splitlines()
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), None)
    return None if flags is None else bool(flags & BFLOAT16_FLAGS)


def warn_of_emulated_bfloat16(trainer: Trainer, cpu_information: Path = Path("/proc/cpuinfo")) -> None:
    """Warn where bfloat16 would run on an x86 CPU without instructions for it, many times slower than float32.

    Args:
        trainer: made, so that its devices are known.
        cpu_information: see `cpu_has_bfloat16`.
    """
    if not str(trainer.precision).startswith("bf16") or trainer.strategy.root_device.type != "cpu":
        return
    if cpu_has_bfloat16(cpu_information) is False:
        rank_zero_warn(
            f"trainer.precision {trainer.precision}: this CPU has no bfloat16 instructions "
            f"({' or '.join(sorted(BFLOAT16_FLAGS))}), so torch emulates them, many times slower than float32. "
            "Take configs/hardware/cpu.yaml, or --trainer.precision 32-true"
        )


def check_fsdp1_has_gpus(strategy: Any, accelerator: Any) -> None:
    """Refuse FSDP1 where there is no GPU, in the words of a configuration.

    Args:
        strategy: `trainer.strategy`, a name or an object.
        accelerator: `trainer.accelerator`, a name or an object.

    Raises:
        UsageError: FSDP1, and no GPU for it.
    """
    if strategy not in FSDPStrategy.get_registered_strategies() and not isinstance(strategy, FSDPStrategy):
        return
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator in ("gpu", "cuda") or isinstance(accelerator, CUDAAccelerator):
        return
    named = [one if isinstance(one, str) else type(one).__name__ for one in (strategy, accelerator)]
    raise UsageError(
        f"trainer.strategy: {named[0]} (FSDP1) takes GPUs, and trainer.accelerator is {named[1]} here; it flattens "
        "parameters besides, so that blocks cannot be told apart. Accepted on a CPU: auto, ddp, or to "
        "shard the model ModelParallelStrategy (FSDP2) as in configs/hardware/fsdp.yaml"
    )

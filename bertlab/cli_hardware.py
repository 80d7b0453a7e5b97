"""What a configuration asks of a machine that cannot do it well."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

#: Instructions of x86 that compute in bfloat16, as /proc/cpuinfo names them.
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}


def warn_of_emulated_bfloat16(trainer: Trainer, cpu_information: Path = Path("/proc/cpuinfo")) -> None:
    """Warn where bfloat16 would run on an x86 CPU without instructions for it, many times slower than float32.

    Args:
        trainer: made, so that its devices are known.
        cpu_information: names the CPU's instructions; where it does not exist (not Linux), nobody knows.
    """
    if not str(trainer.precision).startswith("bf16") or trainer.strategy.root_device.type != "cpu":
        return
    if not cpu_information.is_file():
        return
    lines = cpu_information.read_text(encoding="utf-8", errors="replace").splitlines()
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), None)
    if flags is not None and not flags & BFLOAT16_FLAGS:
        rank_zero_warn(
            f"trainer.precision {trainer.precision}: this CPU has no bfloat16 instructions "
            f"({' or '.join(sorted(BFLOAT16_FLAGS))}), so torch emulates them, many times slower than float32. "
            "Take configs/hardware/cpu.yaml, or --trainer.precision 32-true"
        )

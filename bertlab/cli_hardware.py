"""What a configuration asks of a machine that cannot do it well."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

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

"""RunSettings: the `run.*` keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class RunSettings:
    """Where a run is kept, and what is done around training.

    Args:
        name: of the run; the name of the first --config file without its ending, if not given.
        root: folder of all runs.
        version: of the run, under its name; the next free number, if not given, or the newest one there is when
            --ckpt_path is "last" or "best".
        test_after_fit: test the best checkpoint when training has ended, if there is a test split.
        float32_matmul_precision: "highest" computes float32 products exactly; "high" and "medium" let torch use
            faster arithmetic inside (TF32 on a GPU; oneDNN, and bfloat16 where the CPU has it).
    """

    name: str | None = None
    root: str = "runs"
    version: str | int | None = None
    test_after_fit: bool = True
    float32_matmul_precision: Literal["highest", "high", "medium"] = "highest"

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
        compile: compile the layers of the encoder with `torch.compile`, all but their attention
            (`bertlab.encoders.compiled`), for encoders whose layers are built as BERT's. Each program takes seconds to
            a minute when it is first needed: for training, for evaluation, and when blocks freeze or thaw for the first
            time, a few in all for any number of layers and lengths; compare the times of later steps to see what it
            saves. Results are equal but for rounding, and for dropout, whose masks are drawn otherwise. Checkpoints are
            the same with it and without it, and each loads those of the other. `bertlab plan` does not compile.
    """

    name: str | None = None
    root: str = "runs"
    version: str | int | None = None
    test_after_fit: bool = True
    float32_matmul_precision: Literal["highest", "high", "medium"] = "highest"
    compile: bool = False

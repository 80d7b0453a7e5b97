"""Measure pretraining on one GPU, systems in turn over the seeds; write results and tables."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig

from experiments.flops import training_flops
from experiments.speed_pretraining.run import benches, in_turns
from experiments.speed_pretraining.systems import Bench
from experiments.speed_pretraining_gpu.report import report
from experiments.study import Run, carry_out, study_options, work_folder

FOLDER = Path(__file__).parent
FITS = work_folder(FOLDER) / "fits"


def main() -> None:
    options = study_options(__doc__)
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # of several GPUs the Trainer would take all
    if not (options.quick or options.report or torch.cuda.is_available()):
        raise SystemExit(
            "torch finds no GPU here. Without one: --quick (a tiny model, on the CPU) or --report."
        )
    carry_out(FOLDER, options, runs, report)
    if not options.report:
        shutil.rmtree(FITS, ignore_errors=True)  # none, if all runs were there already


def runs(study: dict[str, Any]) -> Iterator[Run]:
    """Every seed with every case; the systems train in turn."""
    for bench, systems in sorted(benches(study, FITS), key=lambda found: found[0].seed):
        for system, run in in_turns(bench, systems).items():
            known_by = {"case": bench.name, "seed": bench.seed, "system": system}
            yield known_by, partial(measured, bench, run)


def measured(bench: Bench, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The row of a system, with the TFLOP/s that the model asks for at its rate."""
    row = run()
    steps, model = bench.drawn[bench.case["warm_up_steps"] :], BertConfig(**bench.size)
    seconds = sum(step.tokens for step in steps) / row["tokens_per_second"]
    return row | {"model_tflops": sum(training_flops(model, step) for step in steps) / seconds / 1e12}


if __name__ == "__main__":
    main()

"""`bertlab fit` in a study: where it leaves its run, the clock that is put into it, and what is read from the run."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bertlab.corpus.executors import cores
from experiments.commands import run_forked
from experiments.turns import Place

#: The run directory, below the folder that `run_flags` is given.
FIT = Path("fit", "0")


def run_flags(folder: Path, name: str = "fit", version: str = "0") -> list[str]:
    """The flags with which a command of bertlab leaves its run in folder/name/version."""
    return ["--run.root", str(folder), "--run.name", name, "--run.version", version]


def clock_flags(path: Path, place: Place | None = None) -> list[str]:
    """The flags that put `experiments.clocks.LightningClock` into a command of bertlab, behind the callbacks before it.

    Args:
        path: of the file that the clock writes.
        place: in the ring in which the steps are done in turn with those of other processes; None: alone.
    """
    turns = {} if place is None else asdict(place)
    return [
        *("--trainer.callbacks+", "experiments.clocks.LightningClock"),
        *("--trainer.callbacks.init_args.path", str(path)),
        *(f"--trainer.callbacks.init_args.{key}={value}" for key, value in turns.items()),
    ]


def fit_for_scores(
    words: Sequence[str], seed: int, folder: Path, side_by_side: int, added: Sequence[str] = ()
) -> None:
    """One fit of a study whose scores count, and its test; it leaves no checkpoints: they are large.

    Args:
        words: of the command, behind `fit`.
        seed: of the weights that are new, dropout and the order of the rows.
        folder: takes the run directory, clock.json and log.txt; what is there is removed.
        side_by_side: how many such runs there are at the same time, which share the cores.
        added: words behind all others, such as strategies.
    """
    shutil.rmtree(folder, ignore_errors=True)
    command = ["fit", *words, *run_flags(folder), "--seed_everything", str(seed)]
    command += [*clock_flags(folder / "clock.json"), *added]
    run_forked(command, folder / "log.txt", max(1, cores() // side_by_side))
    shutil.rmtree(folder / FIT / "checkpoints")


def read_scores(run: Path, split: str = "test") -> dict[str, Any]:
    """The metrics of a run directory's last test (or validation: `val`), from its results.json."""
    return json.loads((run / "results.json").read_text(encoding="utf-8"))[split]


def logged(run: Path, key: str) -> list[tuple[int, float]]:
    """Step and value of a metric wherever a run directory's metrics.csv has it, in order."""
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [(int(row["step"]), float(row[key])) for row in csv.DictReader(file) if row.get(key)]

"""Measure training, prediction and overhead, systems in turn over the seeds; write results, table and figure."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from experiments.fits import FIT
from experiments.speed_finetuning.overhead import SYSTEMS, measure_overhead
from experiments.speed_finetuning.report import report
from experiments.speed_finetuning.systems import Bench
from experiments.study import Run, carry_out, study_options, work_folder
from experiments.texts import write_splits
from experiments.turns import Place, in_turn

FOLDER = Path(__file__).parent
FITS = work_folder(FOLDER) / "fits"


def main() -> None:
    carry_out(FOLDER, study_options(__doc__), runs, report)


def runs(study: dict[str, Any]) -> Iterator[Run]:
    """Every run of the three parts, systems in turn, seed after seed: stopped after one, the study is of fewer."""
    shutil.rmtree(FITS, ignore_errors=True)  # of a study that was stopped
    counts = (study["train_rows"], study["validation_rows"])
    texts = write_splits(FITS / "texts", *counts, study["test_rows"])
    many = write_splits(FITS / "many", *counts, study["prediction"]["rows"])
    bench = Bench(study["config"], texts, FITS, study["warm_up_epochs"])
    parts = (
        trainings(bench, study),
        predictions(Bench(study["config"], many, FITS, 0), bench, study),
        overheads(bench, study),
    )
    yield from sorted(chain.from_iterable(parts), key=lambda run: study["seeds"].index(run[0]["seed"]))


def trainings(bench: Bench, study: dict[str, Any]) -> Iterator[Run]:
    """All systems train on the same rows, at the same time and in turn."""
    systems, epochs = study["training"]["systems"], study["training"]["epochs"]

    @cache
    def measured(seed: int) -> dict[str, dict[str, Any]]:
        runs = {name: partial(fit, bench, name, settings, seed, epochs) for name, settings in systems.items()}
        return in_turn(bench.folder("fit", "ring", seed), runs)

    for seed in study["seeds"]:
        for system in systems:
            run = partial(lambda seed, system: measured(seed)[system], seed, system)
            yield {"part": "training", "seed": seed, "system": system}, run


def overheads(bench: Bench, study: dict[str, Any]) -> Iterator[Run]:
    """Hand-written loop, whole fit and fit of the head, which are measured at the same time."""
    measured = cache(partial(measure_overhead, bench, study["overhead"]))
    for seed in study["seeds"]:
        for system in SYSTEMS:
            run = partial(lambda seed, system: measured(seed)[system], seed, system)
            yield {"part": "overhead", "seed": seed, "system": system}, run


def fit(
    bench: Bench, system: str, settings: dict[str, Any], seed: int, epochs: int, place: Place
) -> dict[str, Any]:
    """Train, and leave no checkpoints: they are large."""
    row = bench.fit(system, settings, seed, epochs, place)
    shutil.rmtree(bench.folder("fit", system, seed))
    return row


def predictions(bench: Bench, trainer: Bench, study: dict[str, Any]) -> Iterator[Run]:
    """All systems predict the same rows with the same weights, as often as there are seeds.

    `agreement` is the share of rows that get the class that the first system gives them, `difference` the largest
    difference of a probability from its.
    """
    systems: dict[str, dict[str, Any]] = study["prediction"]["systems"]
    first = next(iter(systems))

    @cache
    def checkpoint() -> Path:
        seed, trained = study["seeds"][0], study["training"]["systems"]
        system = next(name for name in trained if name.startswith("bertlab"))
        trainer.fit(system, trained[system], seed, study["training"]["epochs"])
        return trainer.folder("fit", system, seed) / FIT / "checkpoints" / "best.ckpt"

    @cache
    def predict(system: str, seed: int) -> tuple[dict[str, Any], np.ndarray]:
        found = bench.predict(system, systems[system], seed, checkpoint())
        shutil.rmtree(bench.folder("predict", system, seed))
        return found

    def compared(system: str, seed: int) -> dict[str, Any]:
        (_, standard), (row, probabilities) = predict(first, seed), predict(system, seed)
        agreement = (probabilities.argmax(axis=1) == standard.argmax(axis=1)).mean()
        difference = np.abs(probabilities - standard).max()
        return {**row, "agreement": float(agreement), "difference": float(difference)}

    for seed in study["seeds"]:
        for system in systems:
            yield {"part": "prediction", "seed": seed, "system": system}, partial(compared, system, seed)


if __name__ == "__main__":
    main()

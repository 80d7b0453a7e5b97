"""Checkpoints: a run that was killed anywhere goes on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer, seed_everything
from small import KillAt, Killed, Note, SmallData, SmallTask

from bertlab.callbacks.step_seed import StepSeed
from bertlab.tracking.checkpoint_io import AtomicCheckpointIO, read_checkpoint
from bertlab.tracking.checkpoints import Checkpoints
from bertlab.tracking.learning_rates import LearningRates
from bertlab.tracking.metrics_csv import MetricsCsv
from bertlab.tracking.timeline import Timeline
from tests.bits import assert_equal


def train(
    folder: Path,
    task: dict[str, Any],
    kill: KillAt | None = None,
    resume: bool = False,
    every: int = 1,
    **trainer: Any,
) -> Trainer:
    seed_everything(1, verbose=False)
    keeper = Checkpoints(every_steps=every)
    made = Trainer(
        default_root_dir=folder,
        callbacks=[keeper, StepSeed(1), Timeline(folder / "timeline.jsonl"), Note(), LearningRates()]
        + ([kill] if kill else []),
        logger=[MetricsCsv(folder / "metrics.csv")],
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        log_every_n_steps=1,
        **trainer,
    )
    made.callbacks.sort(key=lambda callback: callback is not keeper)
    made.fit(
        SmallTask(**task),
        datamodule=SmallData(),
        ckpt_path=folder / "checkpoints/last.ckpt" if resume else None,
    )
    return made


def state(folder: Path, name: str) -> dict[str, Any]:
    return read_checkpoint(folder / "checkpoints" / f"{name}.ckpt")


TRAININGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "epochs": ({}, {"max_epochs": 3}),
    "accumulated": ({}, {"max_epochs": 3, "accumulate_grad_batches": 2}),
    "validated twice an epoch": ({}, {"max_epochs": 2, "val_check_interval": 0.5}),
    "steps": ({}, {"max_steps": 29}),
    "validated by steps": ({}, {"max_steps": 29, "val_check_interval": 5, "check_val_every_n_epoch": None}),
    "validated every second epoch": ({}, {"max_epochs": 4, "check_val_every_n_epoch": 2}),
    "plateau by epochs": ({"scheduler": "plateau", "interval": "epoch"}, {"max_epochs": 3}),
    "epoch schedule": ({"interval": "epoch"}, {"max_epochs": 3}),
    "no validation": ({}, {"max_epochs": 3, "limit_val_batches": 0}),
}
PLACES = [
    "train_batch_start",
    "before_optimizer_step",
    "train_batch_end",
    "validation_end",
    "train_epoch_end",
]


@pytest.mark.parametrize("name", TRAININGS)
def test_killed_and_resumed_ends_like_never_killed(name: str, tmp_path: Path) -> None:
    task, trainer = TRAININGS[name]
    whole = tmp_path / "whole"
    train(whole, task, **trainer)
    for number, (step, where) in enumerate(
        [(1, PLACES[1]), (7, PLACES[2]), (12, PLACES[3]), (12, PLACES[4]), (14, PLACES[0])]
    ):
        for every in (1, 5):
            folder = tmp_path / f"{number}-{every}"
            try:
                train(folder, task, KillAt(step, where), every=every, **trainer)
            except Killed:
                train(folder, task, resume=True, every=every, **trainer)
            assert (folder / "metrics.csv").read_text() == (whole / "metrics.csv").read_text(), (
                step,
                where,
                every,
            )
            assert (folder / "timeline.jsonl").read_text() == (whole / "timeline.jsonl").read_text()
            assert_equal(state(folder, "last"), state(whole, "last"))
            if trainer.get("limit_val_batches") != 0:
                assert_equal(state(folder, "best")["state_dict"], state(whole, "best")["state_dict"])


def test_killed_many_times(tmp_path: Path) -> None:
    trainer = {"max_epochs": 3, "val_check_interval": 0.5}
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    train(whole, {}, **trainer)
    for number, step in enumerate([2, 5, 6, 11, 12, 13, 23, 24, 30]):
        with pytest.raises(Killed):
            train(folder, {}, KillAt(step, PLACES[number % 3]), resume=number > 0, every=2, **trainer)
    train(folder, {}, resume=True, every=2, **trainer)
    assert (folder / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    assert_equal(state(folder, "last"), state(whole, "last"))

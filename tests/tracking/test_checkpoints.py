"""Checkpoints: a run that was killed anywhere goes on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping
from small import KillAt, Killed, Note, SmallData, SmallTask

from bertlab.callbacks.step_seed import StepSeed
from bertlab.tracking import checkpoints
from bertlab.tracking.checkpoint_io import AtomicCheckpointIO, read_checkpoint
from bertlab.tracking.checkpoints import Checkpoints, _link
from bertlab.tracking.final_checkpoint import FinalCheckpoint
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
    beside: tuple[Callback, ...] = (),
    **trainer: Any,
) -> Trainer:
    seed_everything(1, verbose=False)
    keeper = Checkpoints(every_steps=every)
    made = Trainer(
        default_root_dir=folder,
        callbacks=[keeper, StepSeed(1), Timeline(folder / "timeline.jsonl"), Note(), LearningRates()]
        + ([kill] if kill else [])
        + [*beside, FinalCheckpoint(keeper)],
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


class Links:
    """Makes best.ckpt, and counts how often; once a kill comes before it."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at, self.made = kill_at, 0

    def __call__(self, source: Path, target: Path) -> None:
        self.made += 1
        if self.made == self.kill_at:
            raise Killed
        _link(source, target)


@pytest.mark.parametrize(
    "trainer",
    [{"max_epochs": 1}, {"max_steps": 29}, {"max_epochs": 2, "val_check_interval": 0.5}],
    ids=["in the last save", "steps", "within epochs"],
)
def test_killed_between_last_and_best(
    trainer: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """last.ckpt holds the best score already: no later validation would make best.ckpt of the one that was best."""
    whole, links = tmp_path / "whole", Links()
    monkeypatch.setattr(checkpoints, "_link", links)
    train(whole, {}, **trainer)
    assert links.made >= 1
    for number in range(1, links.made + 1):
        folder = tmp_path / str(number)
        monkeypatch.setattr(checkpoints, "_link", Links(kill_at=number))
        with pytest.raises(Killed):
            train(folder, {}, every=5, **trainer)
        train(folder, {}, resume=True, every=5, **trainer)
        assert_equal(
            state(folder, "best")["state_dict"], state(whole, "best")["state_dict"], f"kill {number}"
        )
        assert_equal(state(folder, "best")["global_step"], state(whole, "best")["global_step"])
        assert_equal(state(folder, "last"), state(whole, "last"))


def test_best_is_not_made_of_another_run_s_checkpoint(tmp_path: Path) -> None:
    """A plan, for one, looks at a run's last.ckpt and writes nothing."""
    train(tmp_path / "one", {}, max_epochs=1)
    keeper = Checkpoints()
    other = Trainer(
        default_root_dir=tmp_path / "other",
        max_epochs=1,
        accelerator="cpu",
        callbacks=[keeper],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[AtomicCheckpointIO()],
    )
    other.fit(SmallTask(), datamodule=SmallData(), ckpt_path=tmp_path / "one/checkpoints/last.ckpt")
    assert keeper.best_step == other.global_step == 12
    assert not (tmp_path / "other/checkpoints").exists()


@pytest.mark.parametrize("within", [{}, {"val_check_interval": 0.5}], ids=["at epochs", "within epochs"])
def test_a_run_that_was_stopped_early_stays_stopped(within: dict[str, Any], tmp_path: Path) -> None:
    """Killed when its training has ended, as in the test of the best checkpoint."""

    def stop() -> EarlyStopping:
        return EarlyStopping("val/loss", stopping_threshold=100.0)

    ended = train(tmp_path, {}, beside=(stop(),), max_epochs=4, **within).global_step
    assert ended == (6 if within else 12)
    before = {name: (tmp_path / name).read_text() for name in ("metrics.csv", "timeline.jsonl")}
    last = state(tmp_path, "last")
    with pytest.warns(
        UserWarning, match=r"stopped early by step \d+ .*EarlyStopping, monitor 'val/loss'.*take that"
    ):
        assert train(tmp_path, {}, resume=True, beside=(stop(),), max_epochs=4, **within).global_step == ended
    assert {name: (tmp_path / name).read_text() for name in before} == before
    assert_equal(state(tmp_path, "last"), last)


def test_a_run_that_was_stopped_early_trains_on_where_nobody_stops_it(tmp_path: Path) -> None:
    train(tmp_path, {}, beside=(EarlyStopping("val/loss", stopping_threshold=100.0),), max_epochs=2)
    patient = (EarlyStopping("val/accuracy", mode="max", patience=9),)
    assert train(tmp_path, {}, resume=True, beside=patient, max_epochs=2).global_step == 24


class Scripted(Callback):
    """Logs a metric that gets worse once, and then better."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.log("val/scripted", [1.0, 2.0, 0.0, 0.0, 0.0, 0.0][trainer.current_epoch])


def test_a_stop_that_waits_for_min_epochs_is_not_forgotten(tmp_path: Path) -> None:
    """The second epoch was worse, so training ends as soon as it may: after the third, though that is better."""

    def beside() -> tuple[Callback, ...]:
        return Scripted(), EarlyStopping("val/scripted", patience=1)

    epochs = {"min_epochs": 3, "max_epochs": 6}
    assert train(tmp_path / "whole", {}, beside=beside(), **epochs).global_step == 36
    with pytest.raises(Killed):
        train(tmp_path / "killed", {}, KillAt(30), beside=beside(), **epochs)
    assert train(tmp_path / "killed", {}, resume=True, beside=beside(), **epochs).global_step == 36
    assert_equal(state(tmp_path / "killed", "last"), state(tmp_path / "whole", "last"))

"""Metrics that are waited for: refused before training where nobody will log them, and never otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import ReduceLROnPlateau
from own_metrics import LogsMine, NamesMine, TaskOfMine
from own_strategies import Sharpened

from bertlab.callbacks.lr_restarts import LrRestarts
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.strategy import AtStep, OnPlateau, Run, Strategy
from bertlab.callbacks.unfreezing_plans import Stage
from bertlab.tasks.sequence_classification import SequenceClassification
from bertlab.tracking.checkpoints import Checkpoints
from bertlab.tracking.watched_metrics import WatchedMetrics
from tests.tasks.tiny import TinyData, tiny_encoder, tiny_task, tiny_trainer
from tests.tasks.tiny_mixture import TinyMixture, tiny_mixture
from tests.tasks.tiny_words import TinyWords, tiny_tagger


class OfMine(Strategy):
    """A strategy as the README shows one, that waits for a metric."""

    when = OnPlateau("val/f2")

    def apply(self, run: Run) -> None:
        run.note("seen", stage=run.stage)


class ActsAtStages(OfMine):
    """Has code that is called in training."""

    when = AtStep(1)

    def on_stage_start(self, run: Run) -> None:
        run.note("started", stage=run.stage)


def by_score(metric: str, mode: Literal["min", "max"] = "max") -> Checkpoints:
    return Checkpoints(monitor=metric, mode=mode)


def train(folder: Path, callbacks: list[Callback], task: Any = None, data: Any = None, **trainer: Any) -> int:
    """The optimizer steps that were taken."""
    settings = {"callbacks": [*callbacks, WatchedMetrics()], "enable_checkpointing": True} | trainer
    made = tiny_trainer(folder, **settings)
    made.fit(task or tiny_task(), datamodule=data or TinyData())
    return made.global_step


def by_hand(metric: str) -> StagedUnfreezing:
    until = [Stage(train=["head"], until_step=1), Stage(train=["head"], until_plateau=metric)]
    return StagedUnfreezing(stages=[*until, Stage(train=["all"])])


FAULTS: dict[str, tuple[list[Callback], str]] = {
    "checkpoints": (
        [by_score("val/f1_macro")],
        r"^checkpoints\.monitor is 'val/f1_macro', which validation does not log \(did you mean 'val/macro_f1'\?\): "
        "it logs val/accuracy, val/calibration_error, val/loss, val/macro_f1, val/mcc$",
    ),
    "unfreezing on a plateau": (
        [StagedUnfreezing(plateau="val_loss")],
        r"^trainer\.callbacks: StagedUnfreezing waits for 'val_loss', which .* \(did you mean 'val/loss'\?\)",
    ),
    "a stage by hand": ([by_hand("val/f2")], "StagedUnfreezing waits for 'val/f2'"),
    "the best weights of a stage": ([StagedUnfreezing(restore_best="test/loss")], "waits for 'test/loss'"),
    "restarts": (
        [LrRestarts(at="plateau", plateau="val/los", cycle_steps=2)],
        "LrRestarts waits for 'val/los'",
    ),
    "a strategy of one's own": ([OfMine()], r"trainer\.callbacks: OfMine waits for 'val/f2'"),
    "beside a strategy of one's own": ([Sharpened(), by_score("val/f2")], "monitor is 'val/f2'"),
    "early stopping": ([EarlyStopping("val_loss")], r"^trainer\.callbacks: EarlyStopping\.monitor is"),
    "Lightning's checkpoints": ([ModelCheckpoint(monitor="val_loss")], r"ModelCheckpoint\.monitor is"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_will_not_come_is_refused(fault: str, tmp_path: Path) -> None:
    callbacks, message = FAULTS[fault]
    with pytest.raises(ValueError, match=message):
        train(tmp_path, callbacks)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_schedule_that_waits_is_looked_at_too(tmp_path: Path) -> None:
    task = tiny_task(schedule=lambda optimizer: ReduceLROnPlateau(optimizer, monitor="val/lost"))
    with pytest.raises(ValueError, match=r"^model\.init_args\.schedule: ReduceLROnPlateau\.monitor is 'val/"):
        train(tmp_path, [], task)


def test_names_are_those_of_the_task(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"did you mean 'val/f1_x'\?.*, val/f1_y, .*val/strict_recall$"):
        train(tmp_path, [by_score("val/f1x")], tiny_tagger(), TinyWords())
    with pytest.raises(ValueError, match=r"did you mean 'val/texts/macro_f1'\?.* val/mean_score, .*words/f1"):
        train(tmp_path, [by_score("val/text/macro_f1")], tiny_mixture(), TinyMixture())
    with pytest.raises(ValueError, match="did you mean 'val/mine'"):
        train(tmp_path, [by_score("val/nine")], NamesMine(tiny_encoder()))


@pytest.mark.parametrize(
    ("callbacks", "task"),
    [
        ([LogsMine(), by_score("val/mine")], SequenceClassification),
        ([by_score("val/mine")], TaskOfMine),
        ([by_score("val/mine")], NamesMine),
        ([EarlyStopping("train/loss"), by_score("val/mcc")], SequenceClassification),
        ([EarlyStopping("val/none", strict=False), ModelCheckpoint()], SequenceClassification),
        ([by_hand("val/accuracy")], SequenceClassification),
        ([StagedUnfreezing(plateau="val/loss", restore_best="val/accuracy")], SequenceClassification),
    ],
    ids=["a callback's", "a task's", "a named one", "training's", "not insisted on", "by hand", "plateaus"],
)
def test_what_may_come_is_not(callbacks: list[Callback], task: Any, tmp_path: Path) -> None:
    assert train(tmp_path, callbacks, task(tiny_encoder())) == 6


def test_nothing_is_asked_of_a_validation_that_there_is_not(tmp_path: Path) -> None:
    """`AwaitedValidations` asks whether there is one."""
    assert train(tmp_path, [by_score("val/f2")], limit_val_batches=0) == 6


@pytest.mark.parametrize("other", [LogsMine, ActsAtStages])
def test_what_somebody_else_might_have_logged_is_missed_after_the_validation(
    other: type[Callback], tmp_path: Path
) -> None:
    message = "checkpoints.monitor is 'val/nine', which the validation did not log; it logged val/accuracy"
    with pytest.raises(ValueError, match=message):
        train(tmp_path, [other(), by_score("val/nine")])

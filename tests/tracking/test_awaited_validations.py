"""Who waits for a validation in a training that has none is refused, or warned of if it is too short for one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import ReduceLROnPlateau
from own_metrics import LogsMine

from bertlab.callbacks.lr_restarts import LrRestarts
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.tracking.awaited_validations import AwaitedValidations
from bertlab.tracking.checkpoints import Checkpoints
from tests.tasks.tiny import TinyData, tiny_task, tiny_trainer


class Unvalidated(TinyData):
    """Has no validation split, as the data modules of bertlab say it."""

    def val_dataloader(self) -> Any:
        return []


class LogsInTraining(Callback):
    """Logs what it likes."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        pl_module.log("mine", 1.0)


def train(
    folder: Path,
    callbacks: list[Callback],
    data: Callable[[], TinyData] = TinyData,
    task: Any = None,
    **trainer: Any,
) -> int:
    """One epoch of six batches, if nothing else is said; the optimizer steps that were taken."""
    settings = {"callbacks": [AwaitedValidations(), *callbacks], "enable_checkpointing": True} | trainer
    made = tiny_trainer(folder, **settings)
    made.fit(task or tiny_task(), datamodule=data())
    return made.global_step


NONE: dict[str, Any] = {"limit_val_batches": 0}
WAITING: dict[str, tuple[Callback, str]] = {
    "checkpoints": (
        Checkpoints(monitor="val/mcc", mode="max"),
        r"^checkpoints\.monitor is 'val/mcc', and nothing is validated in this training: .* or set "
        r"checkpoints\.monitor to null: last\.ckpt is kept all the same$",
    ),
    "unfreezing on a plateau": (
        StagedUnfreezing(plateau="val/loss"),
        r"^trainer\.callbacks: StagedUnfreezing waits for 'val/loss', and nothing is .*: trainer\.limit_val_batches is "
        r"0\. Change that, or let it go by time, or take it out of trainer\.callbacks$",
    ),
    "the best weights of a stage": (StagedUnfreezing(restore_best="val/loss"), "StagedUnfreezing waits for"),
    "a plateau of what training logs": (
        LrRestarts(at="plateau", plateau="train/loss", cycle_steps=2),
        "LrRestarts waits for 'train/loss', and nothing is validated",
    ),
    "early stopping": (
        EarlyStopping("val/loss"),
        r"EarlyStopping\.monitor is 'val/loss', .* or take it out of",
    ),
    "Lightning's checkpoints": (
        ModelCheckpoint(monitor="val/loss"),
        r"ModelCheckpoint\.monitor is 'val/loss'",
    ),
}


@pytest.mark.parametrize(("waiting", "message"), WAITING.values(), ids=WAITING)
def test_who_waits_in_vain_is_refused(waiting: Callback, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        train(tmp_path, [waiting], **NONE)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_schedule_that_waits_is_refused_too(tmp_path: Path) -> None:
    task = tiny_task(schedule=lambda optimizer: ReduceLROnPlateau(optimizer, monitor="val/loss"))
    with pytest.raises(
        ValueError, match=r"^model\.init_args\.schedule: Reduce.* or take a schedule that waits for"
    ):
        train(tmp_path, [], task=task, **NONE)


def test_that_there_is_no_split_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="nothing is validated in this training: the data has no validation split"
    ):
        train(tmp_path, [EarlyStopping("val/loss")], Unvalidated)


LATE = {"check_val_every_n_epoch": None}
TOO_SHORT: dict[str, tuple[dict[str, Any], int, str]] = {
    "fewer steps than an epoch": (
        {"max_steps": 5},
        5,
        r"the first one would come after 6 micro-batches \(trainer\.check_val_every_n_epoch 1, "
        r"trainer\.val_check_interval 1\.0\), and training ends after 5 \(trainer\.max_epochs 1, "
        r"trainer\.max_steps 5\)",
    ),
    "fewer epochs": (
        {"check_val_every_n_epoch": 3, "val_check_interval": 0.5, "max_epochs": 2},
        12,
        r"after 15 micro-batches .* ends after 12 \(trainer\.max_epochs 2\)\.",
    ),
    "over epochs": (LATE | {"val_check_interval": 13, "max_epochs": 2}, 12, "after 13 .* after 12"),
    "accumulated": (
        LATE | {"val_check_interval": 16, "max_steps": 3, "max_epochs": -1, "accumulate_grad_batches": 4},
        3,
        "after 16 .* after 12",
    ),
}


@pytest.mark.parametrize(("trainer", "steps", "why"), TOO_SHORT.values(), ids=TOO_SHORT)
def test_a_training_too_short_for_a_validation_is_warned_of(
    trainer: dict[str, Any], steps: int, why: str, tmp_path: Path
) -> None:
    said = f"waits for 'val/loss', and nothing is validated in this training: .*{why}"
    data = partial(TinyData, splits=trainer.get("accumulate_grad_batches", 1))
    with pytest.warns(UserWarning, match=said):
        assert train(tmp_path, [StagedUnfreezing(plateau="val/loss")], data, **trainer) == steps


@pytest.mark.parametrize(
    ("trainer", "steps"),
    [
        ({"max_steps": 6}, 6),
        ({"check_val_every_n_epoch": 2, "val_check_interval": 0.5, "max_steps": 9, "max_epochs": -1}, 9),
        (LATE | {"val_check_interval": 12, "max_epochs": 2}, 12),
        (
            LATE | {"val_check_interval": 18, "max_steps": 9, "max_epochs": -1, "accumulate_grad_batches": 2},
            9,
        ),
        ({"val_check_interval": "01:00:00:00"}, 6),
        ({"fast_dev_run": True}, 1),
    ],
    ids=str,
)
def test_one_validation_is_enough(trainer: dict[str, Any], steps: int, tmp_path: Path) -> None:
    """The bounds are those of Lightning: each of these is validated once, but for the one that goes by the clock."""

    class Counts(Callback):
        validations = 0

        def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            self.validations += 1

    counts = Counts()
    data = partial(TinyData, splits=trainer.get("accumulate_grad_batches", 1))
    assert train(tmp_path, [StagedUnfreezing(plateau="val/loss"), counts], data, **trainer) == steps
    assert counts.validations == ("01:00:00:00" not in trainer.values())


@pytest.mark.parametrize(
    "callbacks",
    [
        [Checkpoints()],
        [EarlyStopping("train/loss", check_on_train_epoch_end=True)],
        [EarlyStopping("val/loss", strict=False)],
        [LogsInTraining(), EarlyStopping("mine", check_on_train_epoch_end=True)],
        [StagedUnfreezing()],
    ],
    ids=["nobody named a metric", "training's", "not insisted on", "somebody else's", "by time"],
)
def test_who_does_not_wait_is_not_refused(callbacks: list[Callback], tmp_path: Path) -> None:
    assert train(tmp_path, callbacks, **NONE) == 6


def test_who_looks_at_validations_alone_waits_whoever_logs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"checkpoints\.monitor is 'val/mine', and nothing is validated"):
        train(tmp_path, [LogsMine(), Checkpoints(monitor="val/mine", mode="max")], **NONE)

"""Validations come between optimizer steps, so that best.ckpt can hold the validated weights; else they are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from small import SmallData, SmallTask

from bertlab.tracking.checkpoint_io import read_checkpoint
from bertlab.tracking.checkpoints import Checkpoints
from bertlab.tracking.final_checkpoint import FinalCheckpoint
from tests.bits import assert_equal


class Validated(Callback):
    """Keeps the weights of each validation, by optimizer step."""

    def __init__(self) -> None:
        self.weights: dict[int, Any] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        state = {name: value.clone() for name, value in pl_module.state_dict().items()}
        assert trainer.global_step not in self.weights
        self.weights[trainer.global_step] = state


def train(folder: Path, **options: Any) -> tuple[Validated, Checkpoints]:
    """Two epochs of 12 micro-batches."""
    seen, keeper = Validated(), Checkpoints()
    trainer = Trainer(
        default_root_dir=folder,
        max_epochs=2,
        accelerator="cpu",
        callbacks=[keeper, seen, FinalCheckpoint(keeper)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )
    trainer.fit(SmallTask(), datamodule=SmallData())
    return seen, keeper


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a number": (
        {"val_check_interval": 5},
        r"val_check_interval: 5 micro-batches is no multiple of trainer\.accumulate_grad_batches 2: .*such as 4",
    ),
    "a fraction": (
        {"val_check_interval": 0.25},
        r"val_check_interval: 0\.25 of 12 micro-batches, 3, is no multiple of trainer\.accumulate_grad_batches 2",
    ),
    "over epochs": (
        {"val_check_interval": 7, "check_val_every_n_epoch": None},
        r"val_check_interval: 7 micro-batches is no multiple of trainer\.accumulate_grad_batches 2",
    ),
    "over epochs of no whole number of steps": (
        {"val_check_interval": 10, "check_val_every_n_epoch": None, "accumulate_grad_batches": 5},
        r"check_val_every_n_epoch: null counts micro-batches over epochs of 12, .*accumulate_grad_batches 5",
    ),
    "a time": (
        {"val_check_interval": "00:00:00:01"},
        r"val_check_interval is a time, .*accumulate_grad_batches 2: .* a multiple of 2",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_training(case: str, tmp_path: Path) -> None:
    options, message = REFUSED[case]
    with pytest.raises(ValueError, match=rf"^trainer\.{message}"):
        train(tmp_path, **{"accumulate_grad_batches": 2} | options)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"val_check_interval": 4}, [2, 4, 6, 8, 10, 12]),
        ({"val_check_interval": 1 / 3}, [2, 4, 6, 8, 10, 12]),
        ({"val_check_interval": 10, "check_val_every_n_epoch": None}, [5, 10]),
        ({"val_check_interval": 24, "check_val_every_n_epoch": None, "accumulate_grad_batches": 5}, [6]),
        ({"accumulate_grad_batches": 5}, [3, 6]),
        ({"val_check_interval": 5, "accumulate_grad_batches": 1}, [5, 10, 17, 22]),
        ({"val_check_interval": "01:00:00:00", "accumulate_grad_batches": 1}, []),
        ({"val_check_interval": 5, "limit_val_batches": 0}, []),
    ],
    ids=str,
)
def test_best_holds_the_validated_weights(options: dict[str, Any], steps: list[int], tmp_path: Path) -> None:
    seen, keeper = train(tmp_path, **{"accumulate_grad_batches": 2} | options)
    assert list(seen.weights) == steps
    best = tmp_path / "checkpoints/best.ckpt"
    assert best.exists() == bool(steps)
    if keeper.best_step is not None:
        assert_equal(dict(read_checkpoint(best)["state_dict"]), seen.weights[keeper.best_step])

"""A step that fails leaves the rates to the schedule, before anybody is told and before a checkpoint is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import OnExceptionCheckpoint
from torch import nn

from bertlab.callbacks.rates import FACTOR, StepFactors
from bertlab.callbacks.strategy import Run, Strategy
from bertlab.optimizers.parameter_groups import build_optimizer, parameter_groups
from tests.callbacks.tiny import TinyData, TinyTask, fit


class Tenth(Strategy):
    """A tenth of the rate, of all blocks; trains the head alone, by a wrapped loss."""

    touches: ClassVar[set[str]] = {"lr", "trainable", "loss"}

    def apply(self, run: Run) -> None:
        run.scale_lr(run.all_blocks, 0.1)
        run.train_only(run.head)
        run.wrap_loss(lambda p: p.loss())


class DiskError(Exception):
    """Not a fault of a value."""


class Fails(TinyTask):
    """Its loss cannot be computed in the eighth step: within the closure of the optimizer."""

    def training_loss(self, batch: Any) -> torch.Tensor:
        if self.trainer.global_step == 7:
            raise DiskError("step 7")
        return super().training_loss(batch)


class Broken(torch.optim.Optimizer):
    """Fails in its eighth step, after the gradients; moves nothing."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 1e-2})
        self.steps = 0

    def step(self, closure: Any) -> Any:
        with torch.enable_grad():
            loss = closure()
        self.steps += 1
        if self.steps == 8:
            raise DiskError("step 7")
        return loss


class FailsInTheOptimizer(TinyTask):
    """Beyond the closure."""

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(Broken, parameter_groups(self.blocks(), weight_decay=0.1))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 100)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Told(Callback):
    """What an exception finds, before the strategies."""

    def on_exception(self, trainer: Trainer, pl_module: TinyTask, exception: BaseException) -> None:
        self.rates = [group["lr"] for group in trainer.optimizers[0].param_groups]


@pytest.mark.parametrize("kind", [Fails, FailsInTheOptimizer])
def test_a_step_that_fails(kind: type[TinyTask], tmp_path: Path) -> None:
    task, told = kind(), Told()
    with pytest.raises(DiskError, match="step 7"):
        fit(
            [Tenth()],
            tmp_path,
            task=task,
            callbacks=(told, OnExceptionCheckpoint(tmp_path)),
            enable_checkpointing=True,
        )
    if kind is Fails:
        assert told.rates == pytest.approx([1e-2 * 0.93] * len(told.rates))
    kept = torch.load(tmp_path / "on_exception.ckpt", weights_only=True)
    groups = kept["optimizer_states"][0]["param_groups"]
    assert [group["lr"] for group in groups] == pytest.approx([1e-2 * 0.93] * 10)
    # Nor is there another trace.
    trainer = task.trainer
    assert not any(FACTOR in group for group in trainer.optimizers[0].param_groups)
    assert all(parameter.requires_grad for parameter in task.parameters())
    assert all(module.training for module in task.modules())
    assert "training_loss" not in vars(task)


def test_the_same_trainer_goes_on_after_a_failure(tmp_path: Path) -> None:
    """As one that resumes from the checkpoint of the failure, bit for bit."""

    class Once(Fails):
        def training_loss(self, batch: Any) -> torch.Tensor:
            return TinyTask.training_loss(self, batch) if self.failed else super().training_loss(batch)

        failed = False

    strategy, task = Tenth(), Once()
    with pytest.raises(DiskError):
        fit(
            [strategy],
            tmp_path,
            task=task,
            callbacks=(OnExceptionCheckpoint(tmp_path),),
            enable_checkpointing=True,
        )
    trainer, task.failed = task.trainer, True
    file = tmp_path / "on_exception.ckpt"
    other, _ = fit([Tenth()], tmp_path, ckpt_path=file)
    trainer.fit(task, datamodule=TinyData(), ckpt_path=file, weights_only=True)
    for one, two in zip(task.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_step_that_is_tried_again_multiplies_once() -> None:
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.SGD([{"params": layer.parameters(), "block": "head"}], lr=1.0)
    factors = StepFactors([optimizer])
    factors.set({"head": 0.5})
    seen: list[float] = []

    def closure(fails: bool) -> float:
        seen.append(optimizer.param_groups[0]["lr"])
        if fails:
            raise DiskError
        return 0.0

    with pytest.raises(DiskError):
        optimizer.step(closure=lambda: closure(True))
    assert optimizer.param_groups[0]["lr"] == 1.0
    with pytest.raises(DiskError):
        optimizer.step(lambda: closure(True))  # not by name: put back by the next step, or when it ends
    assert optimizer.step(closure=lambda: closure(False)) == 0.0
    assert optimizer.param_groups[0]["lr"] == 1.0
    assert seen == [0.5, 0.5, 0.5]
    with pytest.raises(DiskError):
        optimizer.step(lambda: closure(True))
    factors.remove()
    assert optimizer.param_groups[0]["lr"] == 1.0
    assert FACTOR not in optimizer.param_groups[0]

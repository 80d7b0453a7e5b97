"""RateSweep: each optimizer step at a higher rate than the one before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from bertlab.callbacks.combination import strategies_of
from bertlab.callbacks.conductor import Conductor
from bertlab.callbacks.strategy import Strategy
from bertlab.schedules.range_test import RangeTest

#: What a strategy may touch that would bend the curve: rates, which blocks are trained; and what is of no use here.
DISTURBING = {"lr", "trainable", "average", "checkpoints"}


class RateSweep(Callback):
    """Trains at the rates of a range test and keeps the loss of each optimizer step.

    The rates of all groups are the rate of the test times their own factor (layer decay), whatever the scheduler
    says, which is off. The trainer stops when the test is over or has diverged. Has to stand behind the strategies,
    which are not looked back at: the test is not a whole training.

    Args:
        test: rates, number of steps, and when to give up.

    Attributes:
        losses: of the steps done: means over micro-batches and ranks, the same on all ranks.
    """

    def __init__(self, test: RangeTest) -> None:
        self.test = test
        self.losses: list[float] = []
        self._step: list[Tensor] = []

    @staticmethod
    def undisturbed(callbacks: Sequence[Any]) -> tuple[list[Any], list[str]]:
        """Which of the callbacks of a training can stay in the sweep, and the names of the others.

        Strategies stay that shape the loss (class weights), the gradients, the weights that training starts from, or
        which parameters of a block are trained: without them the sweep would be that of another training.
        """
        kept = [c for c in callbacks if isinstance(c, Strategy) and not c.touches & DISTURBING]
        return kept, [type(c).__name__ for c in callbacks if not any(c is other for other in kept)]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the rates from the scheduler; have nobody look back, at the end, at what strategies have not done.

        Raises:
            ValueError: training has fewer steps than the test.
        """
        total = trainer.estimated_stepping_batches
        if total < self.test.steps:
            raise ValueError(
                f"--steps is {self.test.steps}, and the whole training (trainer.max_epochs, trainer.max_steps) has "
                f"{int(total)} optimizer steps: give at most so many, or train longer"
            )
        trainer.strategy.lr_scheduler_configs = []
        if strategies_of(trainer):
            Conductor.of(trainer).skip_hindsight()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the rate of the step."""
        rate = self.test.rate(min(len(self.losses), self.test.steps - 1))
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("rate_factor", 1.0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss, once the step is taken."""
        self._step.append(outputs["loss"].detach())  # Lightning has divided it by the number of micro-batches
        if trainer.global_step == len(self.losses):
            return
        mean = trainer.strategy.reduce(sum(self._step, start=self._step[0].new_zeros(())), reduce_op="mean")
        self._step.clear()
        self.losses.append(float(mean))
        if len(self.losses) == self.test.steps or self.test.diverged(self.losses):
            trainer.should_stop = True

"""Standpoint: a trainer moved along the steps of its training, without training."""

# Lightning says when a scheduler moves and when a validation comes in methods with an underscore: they are asked here,
# rather than written once more, so that a plan says what they will do.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import Trainer

from bertlab.callbacks.foresight import validates


class Standpoint:
    """Where a trainer stands: its progress counters, which everything asks for the place, set from step to step.

    Args:
        trainer: before the first step of a fit, or of a resumed one.

    Attributes:
        first: optimizer steps taken already.
        total_steps: optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of an epoch.

    Raises:
        ValueError: the training has no end.
    """

    def __init__(self, trainer: Trainer) -> None:
        total, batches = trainer.estimated_stepping_batches, trainer.num_training_batches
        if not math.isfinite(total) or total < 0 or not math.isfinite(batches):
            raise ValueError(
                "a plan shows a training to its end, and this one has none: set trainer.max_epochs or "
                f"trainer.max_steps (they are {trainer.max_epochs} and {trainer.max_steps})"
            )
        self.trainer, self.first, self.total_steps = trainer, trainer.global_step, int(total)
        self._batches, self._accumulated = int(batches), trainer.accumulate_grad_batches
        self.steps_per_epoch = math.ceil(self._batches / self._accumulated)
        batch = trainer.fit_loop.epoch_loop.batch_progress
        done: Any = batch.current
        within = 0 if batch.is_last_batch else done.processed // self._accumulated
        self._epoch_start = self.first - within  # of the epoch under way

    @property
    def left_over(self) -> int:
        """Micro-batches of the last optimizer step of each epoch, if they are fewer than of the others; else 0."""
        return self._batches % self._accumulated

    @property
    def validates(self) -> bool:
        """Whether there is any validation."""
        return validates(self.trainer)

    @property
    def validates_by_time(self) -> bool:
        """Whether validations come after so many minutes, at steps that nobody knows."""
        return getattr(self.trainer, "_val_check_time_interval", None) is not None

    def epoch(self, step: int) -> int:
        """The epoch that a step belongs to."""
        return self._place(step)[0]

    def before(self, step: int) -> None:
        """Stand where `step` optimizer steps have been taken, before the first micro-batch of the next one."""
        epoch, within = self._place(step)
        self._set(epoch, within * self._accumulated, step)

    def after(self, step: int) -> list[int]:
        """Let a step pass: schedulers that wait for no metric move on.

        Returns:
            Of each validation between its micro-batches or after them, the optimizer steps taken before it.
        """
        epoch, within = self._place(step)
        loop = self.trainer.fit_loop.epoch_loop
        begin = within * self._accumulated
        end = min(begin + self._accumulated, self._batches)
        validations: list[int] = []
        for done in range(begin + 1, end + 1):
            self._set(epoch, done, step + (done == end))
            if done == end:
                loop.update_lr_schedulers("step", update_plateau_schedulers=False)
                if end == self._batches:
                    loop.update_lr_schedulers("epoch", update_plateau_schedulers=False)
            if self._validates():
                validations.append(step + (done == end))
        return validations

    def waiting_schedulers(self, step: int) -> list[str]:
        """Schedulers that a metric may have moved before that step, which nobody knows before the training."""
        found: list[str] = []
        for config in self.trainer.lr_scheduler_configs:
            unit = self.steps_per_epoch if config.interval == "epoch" else 1
            if config.reduce_on_plateau and step - self.first >= unit * config.frequency:
                found.append(type(config.scheduler).__name__)
        return found

    def _place(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and the steps taken in it before."""
        epochs, within = divmod(step - self._epoch_start, self.steps_per_epoch)
        return self._epoch_start // self.steps_per_epoch + epochs, within

    def _set(self, epoch: int, batches: int, steps: int) -> None:
        loop = self.trainer.fit_loop
        epochs: Any = (
            loop.epoch_progress.current
        )  # declared as a base class, which does not know all of its counters
        epochs.completed = epochs.processed = epoch
        progress = loop.epoch_loop.batch_progress
        progress.current.ready = batches
        progress.total.ready = epoch * self._batches + batches
        progress.is_last_batch = batches == self._batches
        loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = steps

    def _validates(self) -> bool:
        loop, fetcher = self.trainer.fit_loop.epoch_loop, self.trainer.fit_loop._data_fetcher
        if self.validates_by_time or fetcher is None or not self.validates:
            return False
        return loop._should_check_val_fx(fetcher)

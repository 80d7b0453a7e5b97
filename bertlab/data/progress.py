"""Where in the data a training run is: derived from the optimizer steps taken, never counted separately."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import Trainer


class EpochPosition:
    """Turns the trainer's optimizer steps into (epoch, steps taken in it), also after a resume.

    Lightning's own epoch counter is not used: it is one too high after resuming from the end of an epoch with
    `max_steps`, and it is told to the sampler too late for a loader with workers. The optimizer steps are
    exact at any time.
    """

    def __init__(self) -> None:
        self._first_epoch = 0  # the epoch that begins at step `_first_step`
        self._first_step = 0
        self._resumed: tuple[int, int] | None = None  # steps taken in its epoch, steps of such an epoch

    def now(self, trainer: Trainer) -> tuple[int, int]:
        """The epoch, and the optimizer steps taken in it.

        Raises:
            ValueError: resumed in the middle of an epoch that had another number of steps than it has now.
        """
        steps = steps_per_epoch(trainer)
        if self._resumed is not None and self._resumed[0] > 0 and self._resumed[1] != steps:
            raise ValueError(
                f"The checkpoint was saved after step {self._resumed[0]} of an epoch of {self._resumed[1]} optimizer "
                f"steps, but an epoch has {steps} now. Keep batch_size, max_tokens, the training rows and "
                "limit_train_batches as they were, or resume from the end of an epoch."
            )
        epochs, within = divmod(trainer.global_step - self._first_step, steps)
        return self._first_epoch + epochs, within

    def at_first_batch(self, trainer: Trainer) -> tuple[int, int] | None:
        """As `now`, when the first batch of an epoch, or after a resume, is asked for.

        None if the epoch has no batch left: with `max_steps` and without validation, Lightning asks for one more
        after it resumed from the end of an epoch.

        Raises:
            ValueError: as `now`; or the checkpoint is from the middle of an accumulation, whose gradients it lacks.
        """
        epoch, within = self.now(trainer)
        batches = trainer.fit_loop.batch_idx + 1
        if within == 0 and batches == trainer.num_training_batches:
            return None
        if batches != within * trainer.accumulate_grad_batches:
            raise ValueError(
                f"The checkpoint was saved after {batches} micro-batches of its epoch, which are not the {within} "
                f"optimizer steps taken times accumulate_grad_batches {trainer.accumulate_grad_batches}. Resume from "
                "a checkpoint saved at an optimizer step, with the same ranks and accumulate_grad_batches."
            )
        return epoch, within

    def state_dict(self, trainer: Trainer) -> dict[str, Any]:
        """Epoch and steps as plain numbers, for a checkpoint."""
        epoch, within = self.now(trainer)
        return {
            "epoch": epoch,
            "steps": within,
            "steps_per_epoch": steps_per_epoch(trainer),
            "global_step": trainer.global_step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self._first_epoch = state["epoch"]
        self._first_step = state["global_step"] - state["steps"]
        self._resumed = (state["steps"], state["steps_per_epoch"])


def steps_per_epoch(trainer: Trainer) -> int:
    """Optimizer steps of an epoch, as Lightning takes them: a last, incomplete accumulation counts as one."""
    return math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)

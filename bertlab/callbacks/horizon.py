"""Horizon: how long training is."""

from __future__ import annotations

from dataclasses import dataclass

from lightning.pytorch import Trainer


@dataclass(frozen=True)
class Horizon:
    """How long training is.

    Attributes:
        total_steps: optimizer steps of the whole run.
        steps_per_epoch: optimizer steps of one epoch.
    """

    total_steps: int
    steps_per_epoch: int

    def step_of(self, *, epoch: float | None = None, fraction: float | None = None) -> int:
        """The optimizer step at which that many epochs, or that fraction of training, have been done.

        Examples:
            >>> Horizon(total_steps=90, steps_per_epoch=30).step_of(epoch=1.5)
            45
            >>> Horizon(total_steps=90, steps_per_epoch=30).step_of(fraction=0.1)
            9
        """
        if epoch is not None:
            return round(epoch * self.steps_per_epoch)
        if fraction is not None:
            return round(fraction * self.total_steps)
        raise ValueError("step_of takes epoch or fraction")


def horizon_of(trainer: Trainer) -> Horizon:
    """How long the training of a trainer is.

    Args:
        trainer: in a fit.

    Raises:
        ValueError: nobody has said how long training is.
    """
    total = trainer.estimated_stepping_batches
    if trainer.train_dataloader is None:  # with trainer.max_steps alone nobody has asked for it yet
        trainer.fit_loop.setup_data()
    batches = trainer.num_training_batches
    if total not in (-1, float("inf")) and batches == float("inf"):
        raise ValueError(
            "strategies need to know how long an epoch is, and the training loader has no length: set "
            "trainer.limit_train_batches to the number of batches that are to be an epoch"
        )
    if total == -1 or float("inf") in (total, batches):
        raise ValueError(
            "strategies need to know how long training is: set trainer.max_epochs or trainer.max_steps "
            f"(found max_epochs={trainer.max_epochs}, max_steps={trainer.max_steps})"
        )
    per_epoch = -(-int(batches) // trainer.accumulate_grad_batches)
    return Horizon(total_steps=int(total), steps_per_epoch=per_epoch)

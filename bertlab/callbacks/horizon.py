"""How long the training of a trainer is."""

from __future__ import annotations

from lightning.pytorch import Trainer

from bertlab.callbacks.triggers import Horizon


def horizon_of(trainer: Trainer) -> Horizon:
    """How long training is.

    Args:
        trainer: in a fit.

    Raises:
        ValueError: nobody has said how long training is.
    """
    total = trainer.estimated_stepping_batches
    if trainer.train_dataloader is None:  # with trainer.max_steps alone nobody has asked for it yet
        trainer.fit_loop.setup_data()
    batches = trainer.num_training_batches
    if total == -1 or float("inf") in (total, batches):
        raise ValueError(
            "strategies need to know how long training is: set trainer.max_epochs or trainer.max_steps "
            f"(found max_epochs={trainer.max_epochs}, max_steps={trainer.max_steps})"
        )
    per_epoch = -(-int(batches) // trainer.accumulate_grad_batches)
    return Horizon(total_steps=int(total), steps_per_epoch=per_epoch)

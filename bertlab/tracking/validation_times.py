"""When validations come: between optimizer steps, never inside one."""

from __future__ import annotations

import math

from lightning.pytorch import Trainer


def check_validation_times(trainer: Trainer) -> None:
    """Refuse a validation inside an optimizer step, between its micro-batches.

    A checkpoint can be resumed from between two steps only: that of a validation inside a step would hold other weights
    than the validated ones, those after the step.

    Args:
        trainer: in a fit, its batches known.

    Raises:
        ValueError: names the keys of the trainer, and what is accepted.
    """
    accumulated = trainer.accumulate_grad_batches
    if accumulated == 1 or not trainer.enable_validation:
        return
    with_steps = f"trainer.accumulate_grad_batches {accumulated}"
    if getattr(trainer, "_val_check_time_interval", None) is not None:
        raise ValueError(
            f"trainer.val_check_interval is a time, after which a validation would come inside an optimizer step of "
            f"{with_steps}: best.ckpt could not hold the validated weights. Accepted with it: a number of "
            f"micro-batches that is a multiple of {accumulated}"
        )
    every, batches = trainer.val_check_batch, trainer.num_training_batches
    assert every is not None
    if every == math.inf:  # at the end of each epoch, of a length that nobody knows
        return
    over_epochs = trainer.check_val_every_n_epoch is None
    if every == batches or (over_epochs and math.isfinite(batches) and every % batches == 0):
        return
    if every % accumulated:
        interval = trainer.val_check_interval
        meant = f" of {batches} micro-batches, {every}," if isinstance(interval, float) else " micro-batches"
        raise ValueError(
            f"trainer.val_check_interval: {interval}{meant} is no multiple of {with_steps}: validations would come "
            f"inside optimizer steps, and best.ckpt could not hold the validated weights. Accepted: a whole number "
            f"that is a multiple of {accumulated}, such as {max(1, round(every / accumulated)) * accumulated}"
        )
    if over_epochs and math.isfinite(batches) and batches % accumulated:
        raise ValueError(
            f"trainer.check_val_every_n_epoch: null counts micro-batches over epochs of {batches}, no "
            f"multiple of {with_steps}: validations would come inside optimizer steps, and best.ckpt could not hold "
            f"the validated weights. Accepted: trainer.check_val_every_n_epoch 1, or epochs of whole steps"
        )

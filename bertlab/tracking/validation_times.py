"""When validations come: between optimizer steps, never inside one; and whether any comes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

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


def check_plateaus(trainer: Trainer) -> None:
    """Refuse a schedule that follows a metric of validation, where epochs end without a validation.

    It looks at the metric when an epoch ends (or so many, `trainer.check_val_every_n_epoch`): there would be none, or
    an old one that counts again.

    Args:
        trainer: in `on_train_start`, so that its batches are known.

    Raises:
        ValueError: names the keys.
    """
    every, batches = trainer.val_check_batch, trainer.num_training_batches
    if trainer.check_val_every_n_epoch is not None or every is None or every <= batches:
        return
    for config in trainer.lr_scheduler_configs:
        if config.reduce_on_plateau and not str(config.monitor).startswith("train/"):
            raise ValueError(
                f"model.init_args.schedule: {type(config.scheduler).__name__} looks at {config.monitor!r} when an "
                f"epoch of {batches} micro-batches ends, and validations come every {every} "
                "(trainer.val_check_interval, with check_val_every_n_epoch null): set check_val_every_n_epoch to a "
                f"number of epochs, or val_check_interval to {batches} or less"
            )


def why_validation_is_off(trainer: Trainer) -> str | None:
    """Why nothing can be validated in a training, however long it is; None: something can, or nobody knows.

    Args:
        trainer: in a fit; in `on_train_start` its batches are known.
    """
    if trainer.limit_val_batches == 0:
        return "trainer.limit_val_batches is 0"
    if not trainer.enable_validation:
        return "there is no val_dataloader() in the data, or no validation_step() in the task"
    if trainer.val_dataloaders is not None and not sum(trainer.num_val_batches):
        return "the data has no validation split"
    return None


def why_validation_comes_too_late(trainer: Trainer) -> str | None:
    """Why a training, also before it was resumed, ends before its first validation; None: it does not, or nobody knows.

    Nobody knows where validations go by the clock.

    Args:
        trainer: in `on_train_start`, so that its batches are known.
    """
    first = _first_validation(trainer)
    if first is None or first <= (last := _micro_batches(trainer)):
        return None
    interval = {
        "check_val_every_n_epoch": trainer.check_val_every_n_epoch,
        "val_check_interval": trainer.val_check_interval,
    }
    length = {"max_epochs": trainer.max_epochs, "max_steps": trainer.max_steps}
    length = {name: value for name, value in length.items() if value not in (None, -1)}
    return (
        f"the first one would come after {first} micro-batches ({_listed(interval)}), and training ends after {last} "
        f"({_listed(length)})"
    )


def _first_validation(trainer: Trainer) -> int | None:
    """Micro-batches of the training before its first validation; None where nobody knows."""
    every, batches = trainer.val_check_batch, trainer.num_training_batches
    if every is None or not math.isfinite(every) or not math.isfinite(batches):
        return None
    epochs = trainer.check_val_every_n_epoch
    return int(every) if epochs is None else int((epochs - 1) * batches + every)


def _micro_batches(trainer: Trainer) -> float:
    """Of the whole training, in epochs of a known length; infinite where it has no end."""
    batches, accumulated = trainer.num_training_batches, trainer.accumulate_grad_batches
    by_epochs = math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs * batches
    if trainer.max_steps == -1:
        return by_epochs
    epochs, steps = divmod(trainer.max_steps, math.ceil(batches / accumulated))
    return min(by_epochs, epochs * batches + steps * accumulated)


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"trainer.{name} {value}" for name, value in settings.items())

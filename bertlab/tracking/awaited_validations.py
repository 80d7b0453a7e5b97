"""AwaitedValidations: that somebody waits for a validation in a training that has none is said before training."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from bertlab.tracking.validation_times import (
    check_plateaus,
    why_validation_comes_too_late,
    why_validation_is_off,
)
from bertlab.tracking.watchers import OF_TRAINING, Watcher, logs_what_it_names, watchers_of


class AwaitedValidations(Callback):
    """Says where nothing is ever validated, and somebody was told to wait for a metric of it.

    A stage would last to the end, early stopping would never stop, and no checkpoint would be the best, all without a
    word. Where validation is switched off, or has no data, that is refused; of a training that is too short for a
    validation, such as a trial of ten steps, a warning says it. Strategies and `Checkpoints` look at metrics when a
    validation ends, whoever logs them. Lightning's callbacks and schedules look at other times too, so that what
    training logs serves them, and what is logged by code that nobody here knows. The metric that checkpoints are judged
    by where none is named waits for nothing.

    Has to stand before all that begins when training starts.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for somebody that waits, now that the batches are known.

        Raises:
            ValueError: there is one, and validation is off; the message names its key, why nothing is validated, and
                what to do. Or a schedule looks at a metric after each epoch, and validations come less often.
        """
        check_plateaus(trainer)
        off, late = why_validation_is_off(trainer), why_validation_comes_too_late(trainer)
        why = off or late
        if why is None:
            return
        all_known = logs_what_it_names(trainer, pl_module)
        for watcher in watchers_of(trainer):
            if not _waits_in_vain(watcher, all_known):
                continue
            said = (
                f"{watcher.says} {watcher.metric!r}, and nothing is validated in this training: {why}. Change that, or "
                f"{watcher.without}"
            )
            if off:
                raise ValueError(said)
            rank_zero_warn(said)


def _waits_in_vain(watcher: Watcher, all_known: bool) -> bool:
    if watcher.in_validations:
        return watcher.by_choice
    return all_known and not watcher.metric.startswith(OF_TRAINING)

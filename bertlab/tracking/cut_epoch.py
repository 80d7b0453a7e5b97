"""A training that has ended and goes on: in the epoch that it was ended in, or in the next if that was over."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer


def leave_epoch_open(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Let a checkpoint of the end of training say how far it came in its last epoch.

    Where EarlyStopping, `trainer.max_steps` or somebody else has ended a training within an epoch, Lightning counts
    that epoch as completed: a run that goes on (without the stop, or with more steps) would lose its other batches. The
    counters become those of a checkpoint that is saved before the next batch of the epoch, as `Checkpoints` saves it.
    Of an optimizer step that was stopped within, nothing is counted.

    Args:
        trainer: in a fit.
        checkpoint: that it is about to save; changed in place.
    """
    loops = checkpoint["loops"]["fit_loop"]
    epochs, batches = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
    here = batches["current"]
    if epochs["total"]["processed"] < epochs["total"]["ready"] or epochs["total"]["ready"] == 0:
        return  # it goes on anyway, or none has begun
    was_last = batches["is_last_batch"] or here["ready"] == trainer.num_training_batches
    if was_last and here["processed"] == here["ready"]:
        return
    undone = here["processed"] % trainer.accumulate_grad_batches
    for counts in (batches["total"], here):
        done = counts["processed"] - undone
        counts |= {"ready": done + 1, "started": done, "processed": done, "completed": done}
    for counts in (epochs["total"], epochs["current"]):
        counts |= {"processed": counts["ready"] - 1, "completed": counts["ready"] - 1}
    checkpoint["epoch"] = epochs["current"]["completed"]


def begin_next_epoch(trainer: Trainer) -> None:
    """Let a training that goes on from the end of an epoch begin with the next one.

    With `trainer.max_steps` Lightning takes each resumed training for one that was interrupted within an epoch: at the
    end of one it goes through an epoch of no batches first, and that is the one that `trainer.max_epochs` lacks then.

    Args:
        trainer: whose training starts.
    """
    fit = trainer.fit_loop
    done = fit.epoch_progress.total
    if fit.restarting and done.ready == done.completed > 0:
        for loop in (fit, fit.epoch_loop, fit.epoch_loop.val_loop):
            loop._restarting = False  # pyright: ignore[reportPrivateUsage]: the public one sets it again

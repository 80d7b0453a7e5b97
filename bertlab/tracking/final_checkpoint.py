"""FinalCheckpoint: the end of training, saved when everything that belongs to it has been done."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from bertlab.tracking.checkpoints import Checkpoints
from bertlab.tracking.time_limit import stopped_by_time


class FinalCheckpoint(Callback):
    """Saves last.ckpt, and best.ckpt if it is due, at the end of training.

    Has to stand behind the strategies in the list of callbacks, where `Checkpoints` stands before them: what they do
    when training ends (the checkpoint of the last cycle, events) is done when last.ckpt says that training has ended. A
    run that is killed before goes on from a checkpoint that does not say so, and does it again; from one that does,
    Lightning trains no step and calls nobody. Of a training that `TimeLimit` has stopped, last.ckpt is saved already,
    and does not say so either.

    Args:
        checkpoints: what saves.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, if training has ended and not been interrupted."""
        if not stopped_by_time(trainer):
            self._checkpoints.save(trainer)

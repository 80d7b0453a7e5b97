"""A clock for `trainer.max_time` that tests can tell the time by."""

from __future__ import annotations

from typing import Any

import lightning.pytorch.callbacks.timer as lightning_timer
from lightning.pytorch import Callback, LightningModule, Trainer


class Clock(Callback):
    """Stands in the place of the clock of Lightning's `Timer`: a second passes with each micro-batch.

    Args:
        ahead: by how many seconds the clock of rank 1 is before that of rank 0 when training has begun.
    """

    def __init__(self, ahead: int = 0) -> None:
        self.ahead, self.seconds = ahead, 0

    def monotonic(self) -> float:
        return self.seconds

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        lightning_timer.time = self

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.seconds += 1 + (self.ahead * trainer.global_rank if self.seconds == 0 else 0)

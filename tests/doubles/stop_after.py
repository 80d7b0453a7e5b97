"""A training that is stopped as by a kill, and the checkpoints that it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class StopAfter(Callback):
    """Raises at an optimizer step: what a kill leaves behind are the checkpoints before it."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


def every_step(folder: Path) -> ModelCheckpoint:
    """Keeps a checkpoint of every optimizer step."""
    return ModelCheckpoint(folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)

"""A callback that watches whether ranks stay equal."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class SameOnBothRanks(Callback):
    """Raises before a training batch if a rank's weights are not those of rank 0, bit for bit."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        for name, parameter in pl_module.named_parameters():
            theirs = parameter.detach().clone()
            torch.distributed.broadcast(theirs, src=0)
            if not torch.equal(theirs, parameter):
                raise AssertionError(f"ranks differ in {name} at step {trainer.global_step}")

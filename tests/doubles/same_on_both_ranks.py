"""A callback that watches whether ranks stay equal."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class SameOnBothRanks(Callback):
    """Raises if a rank's weights are not those of rank 0, bit for bit: before each batch, and when training ends."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.compare(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.compare(trainer, pl_module)

    def compare(self, trainer: Trainer, module: LightningModule) -> None:
        mine = torch.cat([parameter.detach().view(-1) for parameter in module.parameters()])
        theirs = mine.clone()
        torch.distributed.broadcast(theirs, src=0)
        if torch.equal(theirs, mine):
            return
        start = 0
        for name, parameter in module.named_parameters():
            end = start + parameter.numel()
            if not torch.equal(theirs[start:end], mine[start:end]):
                raise AssertionError(f"ranks differ in {name} at step {trainer.global_step}")
            start = end

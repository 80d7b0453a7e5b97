"""A training whose process is killed at a micro-batch."""

from __future__ import annotations

import os
import signal
from typing import Any

from lightning.pytorch import Callback, Trainer


class KillAt(Callback):
    """Kills the process by SIGKILL when a micro-batch begins.

    Args:
        micro_batch: number of it in the epoch, from 0.
    """

    def __init__(self, micro_batch: int) -> None:
        self.micro_batch = micro_batch

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.micro_batch:
            os.kill(os.getpid(), signal.SIGKILL)

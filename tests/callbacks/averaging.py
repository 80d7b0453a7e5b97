"""What the tests of averages share: fits that remember the trained weights and what validations saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from tests.callbacks.tiny import TinyTask, fit


def weights(module: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights of a module."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


class Watch(Callback):
    """Keeps, by optimizer steps done, the weights before each step and the weights of each validation."""

    def __init__(self) -> None:
        self.trained: dict[int, dict[str, Tensor]] = {}
        self.validated: dict[int, dict[str, Tensor]] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.trained[trainer.global_step] = weights(pl_module)

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.validated[trainer.global_step] = weights(pl_module)


def plain(root: Path, **arguments: Any) -> tuple[TinyTask, Watch]:
    """A fit without strategies: the trained weights of each of its steps, its end included."""
    watch = Watch()
    task, trainer = fit([], root, callbacks=(watch,), **arguments)
    watch.trained[trainer.global_step] = weights(task)
    return task, watch

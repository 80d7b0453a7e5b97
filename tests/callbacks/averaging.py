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


class Save(Callback):
    """A checkpoint before each step, and one in the middle of each validation."""

    def __init__(self, root: Path, weights_only: bool = False) -> None:
        self.root, self.weights_only = root, weights_only

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        trainer.save_checkpoint(self.root / f"before-{trainer.global_step}.ckpt", self.weights_only)

    def on_validation_batch_start(self, trainer: Trainer, *args: Any) -> None:
        trainer.save_checkpoint(self.root / f"inside-{trainer.global_step}.ckpt", self.weights_only)


def plain(root: Path, **arguments: Any) -> tuple[TinyTask, Watch]:
    """A fit without strategies: the trained weights of each of its steps, its end included."""
    watch = Watch()
    task, trainer = fit([], root, callbacks=(watch,), **arguments)
    watch.trained[trainer.global_step] = weights(task)
    return task, watch

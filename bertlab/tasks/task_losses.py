"""TaskLosses: the training loss of each of several tasks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from bertlab.tasks.step_loss import StepLoss


class TaskLosses:
    """Of each task the loss of the last optimizer step that was of it, over all micro-batches and ranks.

    It is kept from step to step, and in checkpoints: a resumed run logs what one that was never stopped does.
    """

    def __init__(self) -> None:
        self._steps: dict[str, StepLoss] = {}
        self._last: dict[str, Tensor] = {}

    def add(self, losses: Mapping[str, Tensor], micro_batches: int, trainer: Trainer) -> None:
        """Take the losses of a micro-batch.

        Args:
            losses: of the tasks that it is of, the same on all ranks.
            micro_batches: of the step, on this rank.
            trainer: knows the other ranks.
        """
        for name, loss in losses.items():
            mean = self._steps.setdefault(name, StepLoss()).add(loss, micro_batches)
            if mean is not None:
                over_ranks = trainer.strategy.reduce(mean, reduce_op="mean")
                assert isinstance(over_ranks, Tensor)
                self._last[name] = over_ranks

    def logged(self) -> dict[str, Tensor]:
        """`train/<task>/loss` of each task that there was a step of."""
        return {f"train/{name}/loss": loss for name, loss in self._last.items()}

    def clear(self) -> None:
        """Forget a step that was not finished."""
        self._steps.clear()

    def state(self) -> dict[str, float]:
        """For a checkpoint: plain numbers."""
        return {name: float(loss) for name, loss in self._last.items()}

    def restore(self, state: Mapping[str, float]) -> None:
        """Take what `state` gave."""
        self._last = {name: torch.tensor(loss) for name, loss in state.items()}

"""StepLoss: the loss of an optimizer step from those of its micro-batches."""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from bertlab.interfaces import MultiTaskBatch, TextBatch


class StepLoss:
    """Means the losses of the micro-batches of one step on one rank; the mean over ranks is the caller's."""

    def __init__(self) -> None:
        self._losses: list[Tensor] = []

    def add(self, loss: Tensor, micro_batches: int) -> Tensor | None:
        """Take the loss of a micro-batch.

        Args:
            loss: a scalar.
            micro_batches: of the step, on this rank.

        Returns:
            The mean, with the last micro-batch of a step; None before.
        """
        self._losses.append(loss.detach())
        if len(self._losses) < micro_batches:
            return None
        mean = torch.stack(self._losses).mean()
        self._losses.clear()
        return mean

    def clear(self) -> None:
        """Forget a step that was not finished."""
        self._losses.clear()


def micro_batches_of_a_rank(batch: TextBatch | MultiTaskBatch, trainer: Trainer) -> int:
    """How many micro-batches of an optimizer step each rank has.

    Raises:
        ValueError: the data splits a step into another number of micro-batches than training does, so that the gradient
            would be that of no objective.
    """
    accumulated, ranks = trainer.accumulate_grad_batches, trainer.world_size
    if batch.micro_batches != accumulated * ranks:
        raise ValueError(
            f"the data splits an optimizer step into {batch.micro_batches} micro-batches, training into "
            f"{accumulated * ranks} (trainer.accumulate_grad_batches {accumulated} × {ranks} ranks)"
        )
    return accumulated

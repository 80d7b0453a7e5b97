"""Evaluation: what a model said of each row of a split, gathered over ranks and put in order."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors


class Scores(NamedTuple):
    """What a model said of n rows, in the order of the rows, each row once.

    Attributes:
        outputs: (n, C) probabilities, or (n, 1) values of a regression; float32.
        labels: (n,) int64 class, (n, C) multi-hot, or (n,) float target.
        losses: (n,) float32.
    """

    outputs: Tensor
    labels: Tensor
    losses: Tensor


class Evaluation:
    """Collects one pass over a split, so that metrics are those of all rows at once.

    Every metric is computed once from the rows of all ranks, sorted by their index and without the doubles
    that a sampler may add to give each rank equally many: so metrics do not depend on the order or size of
    batches, nor on the number of ranks, not even by rounding. Memory: 4·(C + 4) bytes a row.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def add(self, index: Tensor, outputs: Tensor, labels: Tensor, losses: Tensor) -> None:
        """Keep one batch.

        Args:
            index: (S,) int64 rows of the split.
            outputs: (S, C).
            labels: (S,) or (S, C).
            losses: (S,).
        """
        self._parts.append(
            (index.detach(), outputs.detach().float(), labels.detach(), losses.detach().float())
        )

    @property
    def has_rows(self) -> bool:
        """Whether there is any row on this rank."""
        return bool(self._parts)

    def clear(self) -> None:
        """Forget all batches."""
        self._parts.clear()

    def gather(self, distributed: bool) -> Scores:
        """All rows, of all ranks.

        Args:
            distributed: whether there are other ranks to gather from; then all ranks must call it.

        Raises:
            ValueError: there is no row.
        """
        if not self._parts:
            raise ValueError("an evaluation takes at least one row on each rank, got none")
        columns = [torch.cat(parts) for parts in zip(*self._parts, strict=True)]
        if distributed:
            columns = [torch.cat(gather_all_tensors(column)) for column in columns]
        order = torch.argsort(columns[0], stable=True)
        index = columns[0][order]
        first = torch.ones_like(index, dtype=torch.bool)
        first[1:] = index[1:] != index[:-1]
        outputs, labels, losses = (column[order[first]] for column in columns[1:])
        return Scores(outputs, labels, losses)

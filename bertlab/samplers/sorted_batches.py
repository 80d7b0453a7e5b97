"""The evaluation sampler: rows by length, in batches of a token budget, every row exactly once over all ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from torch.utils.data.distributed import DistributedSampler

from bertlab.samplers.micro_batch import MicroBatch, Rows


def sorted_batches(lengths: npt.NDArray[np.int64], max_tokens: int, multiple: int = 1) -> list[Rows]:
    """Fill batches with rows, longest first, and make their number a multiple of `multiple`.

    Args:
        lengths: (n,) tokens of each row.
        max_tokens: tokens of a batch at most.
        multiple: the number of ranks, at most n.

    Returns:
        Rows of each batch. A batch exceeds `max_tokens` only where there are too few rows to make the
        number of batches a multiple otherwise.

    >>> [batch.tolist() for batch in sorted_batches(np.array([2, 7, 3, 4]), 8)]
    [[1], [3, 2], [0]]
    """
    order = np.argsort(-lengths, kind="stable")
    ends = np.cumsum(lengths[order])
    batches: list[Rows] = []
    start = 0
    while start < len(order):
        used = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, used + max_tokens, side="right")))
        batches.append(order[start:stop])
        start = stop
    if len(order) // multiple * multiple < -(-len(batches) // multiple) * multiple:
        while len(batches) % multiple:  # too few rows to split: join the lightest instead
            last = batches.pop()
            batches[-1] = np.concatenate([batches[-1], last])
    while len(batches) % multiple:
        widest = max(range(len(batches)), key=lambda position: len(batches[position]))
        batches[widest : widest + 1] = np.array_split(batches[widest], 2)
    return batches


class SortedBatchSampler(DistributedSampler[Any]):
    """Yields `MicroBatch`es for validation, test and prediction: sorted by length, without duplicates.

    Every rank gets the same *number* of batches, because a forward pass under DDP or FSDP communicates
    (buffers, sharded weights) and would hang otherwise; but no row is repeated to get there, unlike in
    torch's DistributedSampler, so metrics are exact.

    Args:
        lengths: (n,) tokens of each row.
        max_tokens: tokens of a batch at most.
        num_replicas: number of ranks.
        rank: this rank.

    Raises:
        ValueError: fewer rows than ranks, or a sequence longer than `max_tokens`.
    """

    def __init__(
        self, lengths: npt.NDArray[np.int64], max_tokens: int, num_replicas: int = 1, rank: int = 0
    ) -> None:
        if len(lengths) < num_replicas:
            raise ValueError(
                f"A split of {len(lengths)} rows cannot be evaluated on {num_replicas} ranks; use fewer."
            )
        if lengths.max() > max_tokens:
            raise ValueError(
                f"evaluation_max_tokens: {max_tokens} is less than the longest text ({lengths.max()} tokens). "
                "Raise evaluation_max_tokens or lower max_length."
            )
        super().__init__(cast(Any, lengths), num_replicas=num_replicas, rank=rank, shuffle=False)
        self.batches = sorted_batches(lengths, max_tokens, num_replicas)[rank::num_replicas]

    def __iter__(self) -> Iterator[MicroBatch]:
        """The batches of this rank."""
        for rows in self.batches:
            yield MicroBatch(rows, None, 1)

    def __len__(self) -> int:
        """Batches of this rank."""
        return len(self.batches)

"""What every sampler here yields, and how the rows of one optimizer step are shared out."""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


class MicroBatch(NamedTuple):
    """The rows of one forward pass, and what it is a part of.

    Attributes:
        rows: (S,) rows of the data set, longest sequence first.
        step_rows: (G,) rows of the whole optimizer step, of all ranks; None outside training.
        micro_batches: into how many micro-batches, over all ranks, the step is split.
        limit: tokens of a sequence at most, what is more is cut; None: as the rows are.
        easiest_share: of the rows that the step was drawn from; None: all, in an order without regard to it.
    """

    rows: Rows
    step_rows: Rows | None
    micro_batches: int
    limit: int | None = None
    easiest_share: float | None = None


def balanced_parts(lengths: Rows, parts: int) -> list[Rows]:
    """Split positions into `parts` lists with nearly equal sums of `lengths`: longest first, to the lightest.

    Graham 1969, "Bounds on multiprocessing timing anomalies": the heaviest part is at most 4/3 of the best
    possible. Each part has at least one position.

    Args:
        lengths: (G,) positive tokens of each sequence.
        parts: number of parts, at most G.

    Returns:
        Positions 0 … G − 1, each in exactly one part; in a part by descending length, parts by descending sum.

    >>> [part.tolist() for part in balanced_parts(np.array([3, 9, 4, 2]), 2)]
    [[1], [2, 0, 3]]
    """
    order = np.argsort(-lengths, kind="stable")
    loads = [(0, 0, part) for part in range(parts)]  # tokens, sequences, part
    members: list[list[int]] = [[] for _ in range(parts)]
    for position in order.tolist():
        tokens, count, part = heapq.heappop(loads)
        members[part].append(position)
        heapq.heappush(loads, (tokens + int(lengths[position]), count + 1, part))
    heaviest_first = sorted(loads, key=lambda load: (-load[0], load[2]))
    return [np.array(members[part], dtype=np.int64) for _, _, part in heaviest_first]

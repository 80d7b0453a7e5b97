"""Bins of places in which attention treats sequences together: how many, how wide, and what goes where."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

STEP = 8  # widths of shared bins are multiples of it, so that few shapes occur

# Costs of attention, forward and backward, in terms of what one of the width² scores of a bin takes; reckoned from
# times with 12 heads of 32 in bfloat16 on a Xeon. A place is gathered and scattered; a group has its own dozen of small
# products.
COST_OF_PLACE = 16
COST_OF_GROUP = 8192
MOST_WIDTHS = 24  # that are considered


@dataclass(frozen=True)
class Bins:
    """Bins of one width and what is in them.

    Attributes:
        width: places of each bin.
        count: how many bins.
        sequences: numbers of the sequences that they hold.
        bin: the bin of each of these sequences.
        at: the place in its bin where each of these sequences begins.
    """

    width: int
    count: int
    sequences: list[int]
    bin: list[int]
    at: list[int]


def single_bins(lengths: Sequence[int], max_waste: float) -> list[Bins]:
    """Divide sequences into runs of neighbours, each in a bin of its own as wide as the longest of its run.

    A run grows as long as at most the share `max_waste` of its places would be padding. Greedy, in one pass;
    lengths in descending order give the fewest runs. For accelerators.

    Args:
        lengths: tokens of each sequence, at least 1 each.
        max_waste: in [0, 1); 0 makes a run of each stretch of equal length.

    Returns:
        The runs in order; together they hold every sequence once.

    >>> [(bins.width, bins.sequences) for bins in single_bins([9, 8, 8, 3, 3], max_waste=0.1)]
    [(9, [0, 1, 2]), (3, [3, 4])]
    """
    if not 0 <= max_waste < 1:
        raise ValueError(f"max_waste takes a share in [0, 1), got {max_waste}")
    runs: list[Bins] = []
    start = tokens = longest = 0
    for number, length in enumerate(lengths):
        grown = max(longest, length)
        padded = grown * (number + 1 - start)
        if number > start and padded - (tokens + length) > max_waste * padded:
            runs.append(_one_each(longest, range(start, number)))
            start, tokens, grown = number, 0, length
        tokens, longest = tokens + length, grown
    if lengths:
        runs.append(_one_each(longest, range(start, len(lengths))))
    return runs


def shared_bins(lengths: Sequence[int]) -> list[Bins]:
    """Divide sequences into few groups of bins, which several short sequences share.

    Small products of many shapes are what attention over short texts costs on a CPU: a bin of several sequences with a
    mask between them is one larger product, and its shape comes again. Widths are chosen so that the estimated cost is
    least; within a width the fullest bin that has room takes the next longest sequence (best fit decreasing, Johnson et
    al. 1974, SIAM J. Comput. 3).

    Args:
        lengths: tokens of each sequence, at least 1 each.

    Returns:
        Groups from the widest to the narrowest; together they hold every sequence once.

    >>> [(bins.width, bins.count) for bins in shared_bins([64] + 8 * [16])]
    [(64, 3)]
    """
    sizes = np.asarray(lengths, np.int64)
    order = np.argsort(-sizes, kind="stable")
    groups: list[Bins] = []
    start = 0
    for width, count in _widths(sizes[order]):
        members: list[int] = order[start : start + count].tolist()
        start += count
        groups.append(_best_fit(width, members, [lengths[member] for member in members]))
    return groups


def _one_each(width: int, sequences: Sequence[int]) -> Bins:
    count = len(sequences)
    return Bins(width, count, list(sequences), list(range(count)), [0] * count)


def _widths(sizes: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Widths from the widest and how many of the descending lengths go there, so that the cost is least."""
    if len(sizes) == 0:
        return []
    if sizes[0] == sizes[-1]:
        return [(int(sizes[0]), len(sizes))]
    classes = np.unique(-(-sizes // STEP) * STEP)
    if len(classes) > MOST_WIDTHS:
        classes = classes[np.linspace(0, len(classes) - 1, MOST_WIDTHS).round().astype(int)]
    upwards = sizes[::-1]
    total = np.concatenate([[0], upwards.cumsum()])
    below = np.concatenate(
        [[0], np.searchsorted(upwards, classes, side="right")]
    )  # sequences of the first j widths
    halves = np.searchsorted(upwards, classes // 2, side="right")
    # bins[i, j]: that the sequences of widths i to j need if all are as wide as j: their tokens fill them, and two of
    # more than half a width never share one.
    filled = -(-(total[below[None, 1:]] - total[below[:-1, None]]) // classes[None])
    unshared = below[None, 1:] - np.maximum(below[:-1, None], halves[None])
    bins = np.maximum(filled, unshared)
    cost = COST_OF_GROUP + bins * (classes**2 + COST_OF_PLACE * classes)[None]
    best, chosen = [0.0], [0]
    for j in range(len(classes)):
        totals = np.asarray(best) + cost[: j + 1, j]
        chosen.append(int(totals.argmin()))
        best.append(float(totals.min()))
    widths: list[tuple[int, int]] = []
    j = len(classes)
    while j > 0:
        i = chosen[j]
        if below[j] > below[i]:
            widths.append((int(classes[j - 1]), int(below[j] - below[i])))
        j = i
    return widths


def _best_fit(width: int, sequences: list[int], lengths: list[int]) -> Bins:
    """Put sequences, from the longest, each into the fullest bin that has room for it."""
    free: list[tuple[int, int]] = []  # places that are left and the bin, ascending
    bin_of: list[int] = []
    at: list[int] = []
    count = 0
    for length in lengths:
        fitting = bisect_left(free, (length, 0))
        if fitting < len(free):
            room, number = free.pop(fitting)
        else:
            room, number, count = width, count, count + 1
        bin_of.append(number)
        at.append(width - room)
        if room > length:
            insort(free, (room - length, number))
    return Bins(width, count, sequences, bin_of, at)

"""Which of its rows an optimizer step takes where the training data changes from step to step."""

from __future__ import annotations

import numpy as np

from bertlab.interfaces import Growth, Order
from bertlab.samplers.micro_batch import Rows


def grown_step(rows: Rows, growth: Growth | None, number: int, seed: int) -> Rows:
    """A random part of a step's rows while the batch grows; all of them, as they are, from then on.

    Args:
        rows: (G,) of the step at its full size.
        growth: of the batch; None: it has its full size.
        number: optimizer steps taken before it.
        seed: of the choice.

    >>> [len(grown_step(np.arange(10), Growth(2, 4), number, 0)) for number in range(6)]
    [2, 4, 6, 8, 10, 10]
    """
    size = len(rows) if growth is None else growth.size(number, len(rows))
    if size == len(rows):
        return rows
    # The third number sets this stream apart from those that shuffle and resample.
    return np.random.default_rng([seed, number, 2]).permutation(rows)[:size]


def easy_step(rows: Rows, epoch_rows: Rows, order: Order | None, number: int, seed: int) -> Rows:
    """As many rows as a step has, drawn from the easiest of its epoch while these are not all.

    Platanios et al. 2019, arXiv:1903.09848: uniformly from the rows whose rank is at most c(t). Where these are fewer
    than the step needs, the easiest of all are taken.

    Args:
        rows: (G,) of the step without regard to difficulty; given back where all rows may be drawn.
        epoch_rows: (n,) that the epoch draws from.
        order: of the rows; None: without regard to difficulty.
        number: optimizer steps taken before the step.
        seed: of the choice.

    >>> order = Order(np.array([0.5, 0.25, 1.0, 0.75]), lambda step: 0.5 if step < 9 else 1.0)
    >>> sorted(easy_step(np.array([2, 3]), np.arange(4), order, 0, 0).tolist())
    [0, 1]
    >>> easy_step(np.array([2, 3]), np.arange(4), order, 9, 0).tolist()
    [2, 3]
    """
    if order is None or (share := order.share(number)) >= 1.0:
        return rows
    ranks = order.ranks[epoch_rows]
    easiest = epoch_rows[ranks <= share]
    if len(easiest) < len(rows):
        easiest = epoch_rows[np.argsort(ranks, kind="stable")[: len(rows)]]
    return np.random.default_rng([seed, number, 3]).choice(easiest, len(rows), replace=False)


def within_budget(rows: Rows, lengths: Rows, max_tokens: int | None, least: int) -> Rows:
    """The first rows of a step whose tokens are within its budget.

    Args:
        rows: (G,) of the step.
        lengths: (G,) tokens of each.
        max_tokens: of the step; None: there is no budget.
        least: rows that are kept in any case, one for each micro-batch.

    >>> within_budget(np.array([7, 8, 9]), np.array([5, 4, 3]), 10, 1).tolist()
    [7, 8]
    """
    if max_tokens is None:
        return rows
    return rows[: max(least, int((np.cumsum(lengths) <= max_tokens).sum()))]


def smallest_start(growth: Growth | None, smallest: int) -> int:
    """Rows of the smallest step, of a training whose smallest full step has `smallest` of them.

    >>> smallest_start(Growth(8, 100), 31), smallest_start(Growth(40, 100), 31), smallest_start(None, 31)
    (8, 31, 31)
    """
    return smallest if growth is None else min(growth.size(0, smallest), smallest)

"""Resampling of imbalanced data: how often each class is seen in an epoch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bertlab.samplers.micro_batch import Rows


def class_rows(counts: npt.NDArray[np.int64], power: float) -> npt.NDArray[np.int64]:
    """Rows of each class in a resampled epoch of as many rows as the data has.

    The share of class c is proportional to `counts[c] ** (1 - power)`: 0 leaves the natural shares, 0.5 takes
    square roots (Mahajan et al. 2018, arXiv:1805.00932, section 2.1), 1 makes classes equal. Fractions are
    rounded by largest remainder; a class that has rows keeps at least one.

    Args:
        counts: (C,) rows of each class.
        power: from 0 (natural) to 1 (uniform).

    >>> class_rows(np.array([90, 10]), 1.0).tolist()
    [50, 50]
    >>> class_rows(np.array([90, 10]), 0.0).tolist()
    [90, 10]
    """
    present = counts > 0
    shares = np.where(present, np.power(np.maximum(counts, 1).astype(np.float64), 1.0 - power), 0.0)
    exact = shares / shares.sum() * counts.sum()
    rows = np.floor(exact).astype(np.int64)
    missing = int(counts.sum() - rows.sum())
    rows[np.argsort(-(exact - rows), kind="stable")[:missing]] += 1
    for empty in np.flatnonzero(present & (rows == 0)):
        rows[int(np.argmax(rows))] -= 1
        rows[empty] = 1
    return rows


class ClassBalanced:
    """Draws the rows of each epoch so that rare classes come more often: `draw` of `TokenBudgetSampler`.

    A class of n rows that shall give m gives each row `m // n` times, and a random `m % n` of them once more,
    other ones each epoch: no row is drawn twice before all of its class were. All ranks draw the same.

    Args:
        labels: (n,) class of each row.
        power: from 0 (natural shares) to 1 (classes equally frequent); see `class_rows`.
        seed: of the draw.

    Raises:
        ValueError: `power` is outside [0, 1].
    """

    def __init__(self, labels: npt.NDArray[np.int64], power: float, seed: int = 0) -> None:
        if not 0.0 <= power <= 1.0:
            raise ValueError(f"resampling_power: {power} is not in [0, 1].")
        self.labels = labels
        self.seed = seed
        self.targets = class_rows(np.bincount(labels), power)

    def rows(self, epoch: int) -> Rows:
        """(n,) rows of an epoch, a function of (seed, epoch)."""
        # The third number sets this stream apart from the one that shuffles.
        generator = np.random.default_rng([self.seed, epoch, 1])
        drawn: list[Rows] = []
        for label, target in enumerate(self.targets):
            members = np.flatnonzero(self.labels == label)
            if len(members):
                drawn.append(np.tile(members, target // len(members)))
                drawn.append(generator.choice(members, target % len(members), replace=False))
        return np.concatenate(drawn)

    def longest(self, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(n,) lengths, descending, of the longest epoch that could be drawn."""
        drawn: list[npt.NDArray[np.int64]] = []
        for label, target in enumerate(self.targets):
            members = np.sort(lengths[self.labels == label])[::-1]
            if len(members):
                drawn.append(np.tile(members, target // len(members)))
                drawn.append(members[: target % len(members)])
        return np.sort(np.concatenate(drawn))[::-1]

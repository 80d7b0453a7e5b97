"""Poisson sampling: each row is in each optimizer step or not, by a coin of its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bertlab.samplers.micro_batch import Rows
from bertlab.samplers.token_budget import TokenBudgetSampler


def poisson_rate(batch_size: int, rows: int) -> float:
    """The probability of a row to be in a step, in (0, 1]: what is drawn by, and what is accounted for.

    Args:
        batch_size: rows of an optimizer step in expectation.
        rows: of the training split.

    >>> poisson_rate(256, 4096), poisson_rate(256, 100)
    (0.0625, 1.0)
    """
    return min(1.0, batch_size / rows)


class PoissonSampler(TokenBudgetSampler):
    """Optimizer steps that take each row with the same probability, whatever the other rows and steps.

    What the accountants of differential privacy assume (Abadi et al. 2016, arXiv:1607.00133, where the steps are
    called lots; Mironov et al. 2019, arXiv:1908.10530). A step has `batch_size` rows in expectation, and
    none at all is possible; an epoch has as many steps as one that takes every row once. Steps are split over ranks and
    micro-batches as those of `TokenBudgetSampler` are; parts may be empty.

    Args:
        lengths: (n,) tokens of each row.
        batch_size: rows of an optimizer step in expectation.
        num_replicas: number of ranks.
        rank: this rank.
        micro_batches: micro-batches of a step on each rank.
        seed: of the draws.
        entropy: decides about the draws in the place of `seed`: a number that nobody knows; None: the seed does.

    Raises:
        ValueError: as `TokenBudgetSampler`.

    Attributes:
        rate: the probability, in (0, 1].
    """

    def __init__(
        self,
        lengths: npt.NDArray[np.int64],
        batch_size: int,
        num_replicas: int = 1,
        rank: int = 0,
        micro_batches: int = 1,
        seed: int = 0,
        entropy: int | None = None,
    ) -> None:
        super().__init__(lengths, batch_size, None, num_replicas, rank, micro_batches, seed)
        self.rate = poisson_rate(batch_size, len(lengths))
        self._entropy = seed if entropy is None else entropy

    def _epoch(self, epoch: int) -> tuple[Rows, list[Rows]]:
        generator = np.random.default_rng([self._entropy, epoch])
        draws = (generator.random(len(self.lengths)) for _ in range(self.steps_per_epoch))
        return np.arange(len(self.lengths)), [np.flatnonzero(draw < self.rate) for draw in draws]

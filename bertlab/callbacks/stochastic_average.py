"""StochasticAverage: the mean of the weights that the last part of training passes through."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from bertlab.callbacks.average_times import At, AverageTimes
from bertlab.callbacks.weight_average import WeightAverage


class StochasticAverage(WeightAverage):
    """Stochastic weight averaging (Izmailov et al. 2018, arXiv:1803.05407, algorithm 1).

    The equal mean of the weights at the end of each epoch, or cycle of the learning rate, from a start on. What is
    done with it says `WeightAverage`.

    Deviations: the learning rate is left alone. The paper has a constant or cyclical one while it averages, high
    enough for the weights to differ; here it is the schedule's (`bertlab.schedules.constant.Constant`) or that of
    `LrRestarts`. Running statistics, which BERT has none of, are averaged and not computed anew.

    Args:
        at: "epoch": at the end of each epoch; "cycle": at the end of each cycle of `LrRestarts`, where the rate is
            lowest; "steps": every `every_steps`.
        every_steps: optimizer steps, 1 or more; for "steps" only.
        start_fraction: fraction of training from which on weights are taken.
        start_epoch: the same in epochs; may be a fraction.
        start_step: the same in optimizer steps; of the three at most one. Without any: three quarters of training.

    Raises:
        ValueError: an argument is out of range, or two clash.
    """

    def __init__(
        self,
        at: At = "epoch",
        every_steps: int | None = None,
        start_fraction: float | None = None,
        start_epoch: float | None = None,
        start_step: int | None = None,
    ) -> None:
        starts = {"start_fraction": start_fraction, "start_epoch": start_epoch, "start_step": start_step}
        super().__init__(AverageTimes("StochasticAverage", at, every_steps, starts, default=0.75))

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Move the average towards the weights by one over their number."""
        self.move(weights, 1 / (self.taken + 1))

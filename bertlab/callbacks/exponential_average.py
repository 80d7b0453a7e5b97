"""ExponentialAverage: an average of the weights that forgets the past exponentially."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from bertlab.callbacks.average_times import AverageTimes
from bertlab.callbacks.weight_average import WeightAverage
from bertlab.optimizers.averages import exponential_decay


class ExponentialAverage(WeightAverage):
    """Exponential moving average of the weights (Polyak & Juditsky 1992; Tarvainen & Valpola 2017, arXiv:1703.01780).

    average ← d · average + (1 − d) · weights after each optimizer step (section 2 of the latter). The first weights
    that are taken are the average; what is done with it says `WeightAverage`.

    Deviation from `torch.optim.swa_utils`, which it equals with every_steps 1 and without a warm-up: `decay` is
    that of a step, however seldom weights are taken, so that the average reaches as far back.

    Args:
        decay: d of one optimizer step, in [0, 1); the average reaches back about 1 / (1 − d) steps.
        warm_up: begin with a lower decay, min(d, (1 + t) / (10 + t)), t steps after the average began.
        every_steps: take the weights after each so many optimizer steps, with d to that power; 1 or more.
        start_fraction: fraction of training after which the average begins.
        start_epoch: the same in epochs; may be a fraction.
        start_step: the same in optimizer steps; of the three at most one, and without any it begins with the first.

    Raises:
        ValueError: an argument is out of range, or two clash.
    """

    def __init__(
        self,
        decay: float = 0.999,
        warm_up: bool = True,
        every_steps: int = 1,
        start_fraction: float | None = None,
        start_epoch: float | None = None,
        start_step: int | None = None,
    ) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"ExponentialAverage.decay takes a number in [0, 1), got {decay}")
        starts = {"start_fraction": start_fraction, "start_epoch": start_epoch, "start_step": start_step}
        super().__init__(AverageTimes("ExponentialAverage", "steps", every_steps, starts))
        self.decay, self.warm_up, self.every_steps = decay, warm_up, every_steps

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Move the average towards the weights by 1 − d."""
        decay = exponential_decay(self.decay, self.taken * self.every_steps, self.warm_up)
        self.move(weights, 1 - decay**self.every_steps)

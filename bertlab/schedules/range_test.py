"""RangeTest: which learning rates make a loss fall, from one short training at ever higher rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Suggestions:
    """Rates to train with, to two digits, for a test is no more exact.

    Attributes:
        steepest: where the loss falls fastest with the logarithm of the rate.
        minimum_tenth: a tenth of the rate at which the loss is lowest.
        lowest: the step at which it is.
    """

    steepest: float
    minimum_tenth: float
    lowest: int


@dataclass(frozen=True)
class RangeTest:
    """The range test of Smith 2017, arXiv:1506.01186, section 3.3, with rates that grow geometrically.

    The loss of a step is that of one batch, and noisy, so it is smoothed by an exponential mean. While the sweep runs
    the mean trails behind; what is suggested comes from one taken forwards and back again, which does not: a trailing
    mean would shift the curve, and with it each suggestion, to higher rates.

    Args:
        lr_min: rate of the first step, above 0.
        lr_max: rate of the last step, above `lr_min`.
        steps: optimizer steps, 10 or more.
        smoothing: weight of the mean so far in the next one, in [0, 1).
        divergence: the sweep ends when the trailing mean is so many times the lowest it has been; above 1.

    Raises:
        ValueError: an argument is out of range.

    Examples:
        >>> test = RangeTest(lr_min=1e-5, lr_max=1e-1, steps=21)
        >>> [f"{test.rate(step):.0e}" for step in (0, 5, 10, 20)]
        ['1e-05', '1e-04', '1e-03', '1e-01']
    """

    lr_min: float = 1e-7
    lr_max: float = 1.0
    steps: int = 100
    smoothing: float = 0.9
    divergence: float = 4.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lr_min) and self.lr_min > 0):
            raise ValueError(f"lr_min takes a number above 0, got {self.lr_min}")
        if not (math.isfinite(self.lr_max) and self.lr_max > self.lr_min):
            raise ValueError(f"lr_max takes a number above lr_min, which is {self.lr_min}, got {self.lr_max}")
        if self.steps < 10:
            raise ValueError(f"steps takes 10 or more, got {self.steps}")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing takes a number in [0, 1), got {self.smoothing}")
        if not self.divergence > 1:
            raise ValueError(f"divergence takes a number above 1, got {self.divergence}")

    def rate(self, step: int) -> float:
        """The rate of a step, from 0 to `steps - 1`."""
        return self.lr_min * (self.lr_max / self.lr_min) ** (step / (self.steps - 1))

    def diverged(self, losses: Sequence[float]) -> bool:
        """Whether the sweep has to end after these losses, one a step.

        Examples:
            >>> test = RangeTest(smoothing=0.0, divergence=4.0)
            >>> [test.diverged(losses) for losses in ([1.0, 4.0], [1.0, 0.5, 2.1], [1.0, float("nan")])]
            [False, True, True]
        """
        trailing = exponential_mean(losses, self.smoothing)
        return not math.isfinite(losses[-1]) or trailing[-1] > self.divergence * min(trailing)

    def smoothed(self, losses: Sequence[float]) -> list[float]:
        """The losses without their noise, and without delay.

        A loss that rises above the highest mean before the lowest by more than the fall counts as if it rose by no
        more: a last one of a million would otherwise be smeared over the fall.

        Args:
            losses: finite, one a step.
        """
        trailing = exponential_mean(losses, self.smoothing)
        lowest = min(range(len(trailing)), key=trailing.__getitem__, default=0)
        top = max(trailing[: lowest + 1], default=0.0)
        most = 2 * top - trailing[lowest] if lowest else math.inf
        forwards = exponential_mean([min(loss, most) for loss in losses], self.smoothing)
        return exponential_mean(forwards[::-1], self.smoothing)[::-1]

    def suggestions(self, losses: Sequence[float]) -> Suggestions | None:
        """What rates the losses suggest; None where they have not fallen.

        Args:
            losses: one a step, from the first on; from the first that is not finite on they do not count.

        Examples:
            >>> test = RangeTest(lr_min=1e-4, lr_max=1e-2, steps=11, smoothing=0.0)
            >>> test.suggestions([3.0, 3.0, 2.9, 2.7, 2.0, 1.0, 0.9, 0.9, 0.8, 2.0, 9.0])
            Suggestions(steepest=0.00063, minimum_tenth=0.0004, lowest=8)
            >>> test.suggestions([3.0, 3.1, 3.2, 3.3, 3.4, 3.5, 3.6, 3.7, 3.8, 3.9, 4.0]) is None
            True
        """
        curve = self.smoothed(finite(losses))
        lowest = min(range(len(curve)), key=curve.__getitem__, default=0)
        inside = range(1, min(lowest + 1, len(curve) - 1))
        if not inside:
            return None
        # The logarithm of the rate grows by the same amount with each step.
        steepest = min(inside, key=lambda step: curve[step + 1] - curve[step - 1])
        if curve[steepest + 1] >= curve[steepest - 1]:
            return None
        return Suggestions(_two_digits(self.rate(steepest)), _two_digits(self.rate(lowest) / 10), lowest)


def exponential_mean(values: Sequence[float], smoothing: float) -> list[float]:
    """Exponential means from the first value on, corrected for their beginning at 0 (as Adam's moments).

    Examples:
        >>> exponential_mean([1.0, 1.0, 4.0], 0.5)
        [1.0, 1.0, 2.7142857142857144]
    """
    means: list[float] = []
    mean = 0.0
    for count, value in enumerate(values, start=1):
        mean = smoothing * mean + (1 - smoothing) * value
        means.append(mean / (1 - smoothing**count))
    return means


def finite(losses: Sequence[float]) -> list[float]:
    """The losses before the first that is not finite."""
    end = next((step for step, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    return list(losses[:end])


def _two_digits(value: float) -> float:
    return float(f"{value:.1e}")

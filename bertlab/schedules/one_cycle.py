"""OneCycle: one long rise and one fall along cosines."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bertlab.schedules.schedule import Schedule


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up and down along half cosines (Smith & Topin 2018, arXiv:1708.07120, in fastai's form).

    Equal to the rate of `torch.optim.lr_scheduler.OneCycleLR(anneal_strategy="cos")`; momentum is left alone.

    Args:
        warmup_fraction: part of training, in (0, 1), over which the factor rises.
        start_divisor: the factor starts at `1 / start_divisor`; 1 or more.
        final_divisor: the factor ends at `1 / (start_divisor * final_divisor)`; 1 or more.

    Raises:
        ValueError: an argument is out of range.

    Examples:
        >>> schedule = OneCycle(warmup_fraction=0.25, start_divisor=25.0)
        >>> [round(schedule(progress), 3) for progress in (0.0, 0.125, 0.25, 0.625, 1.0)]
        [0.04, 0.52, 1.0, 0.5, 0.0]
    """

    warmup_fraction: float = 0.3
    start_divisor: float = 25.0
    final_divisor: float = 1e4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup_fraction == 0:
            raise ValueError("OneCycle.warmup_fraction takes a number in (0, 1), got 0")
        for name in ("start_divisor", "final_divisor"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 1):
                raise ValueError(f"OneCycle.{name} takes a number of 1 or more, got {value}")

    def __call__(self, progress: float) -> float:
        """The rise; the fall is `after_warmup`."""
        height = super().__call__(progress)
        if progress < self.warmup_fraction:
            return _half_cosine(1 / self.start_divisor, 1.0, height)
        return height

    def after_warmup(self, progress: float) -> float:
        """The fall."""
        return _half_cosine(1.0, 1 / (self.start_divisor * self.final_divisor), progress)


def _half_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))

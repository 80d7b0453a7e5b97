"""Schedule: the base of all schedules."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule(ABC):
    """A function from progress to a factor of the learning rate, with a linear warm-up in front.

    A subclass says in `after_warmup` what comes after the warm-up, in a progress of its own that starts at 0
    again, so that no subclass has to know of the warm-up.

    Args:
        warmup_fraction: part of training, in [0, 1), over which the factor climbs from 0 to 1.

    Raises:
        ValueError: `warmup_fraction` is out of range.
    """

    warmup_fraction: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_fraction < 1:
            raise ValueError(
                f"{type(self).__name__}.warmup_fraction takes a number in [0, 1), got {self.warmup_fraction}"
            )

    def __call__(self, progress: float) -> float:
        """The factor after that part of training.

        Args:
            progress: optimizer steps done / optimizer steps of the whole training, in [0, 1].

        Raises:
            ValueError: `progress` is not in [0, 1].
        """
        if not 0 <= progress <= 1:
            raise ValueError(f"{type(self).__name__} takes a progress in [0, 1], got {progress}")
        if progress < self.warmup_fraction:
            return progress / self.warmup_fraction
        return self.after_warmup((progress - self.warmup_fraction) / (1 - self.warmup_fraction))

    @abstractmethod
    def after_warmup(self, progress: float) -> float:
        """The factor after that part of what follows the warm-up, in [0, 1]."""

    def _check_factor(self, name: str) -> None:
        value = getattr(self, name)
        if not (math.isfinite(value) and 0 <= value <= 1):
            raise ValueError(f"{type(self).__name__}.{name} takes a number in [0, 1], got {value}")

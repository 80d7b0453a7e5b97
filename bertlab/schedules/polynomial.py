"""Polynomial: a power of what is left."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bertlab.schedules.schedule import Schedule


@dataclass(frozen=True)
class Polynomial(Schedule):
    """Down as a power of the part of training that is left: `final + (1 - final)·(1 - progress)^power`.

    The schedule of the original BERT code (`tf.train.polynomial_decay`), where the power is 1.

    Args:
        warmup_fraction: part of training, in [0, 1), over which the factor climbs from 0 to 1.
        power: above 0; 1 is a straight line.
        final_factor: the factor at the end, in [0, 1].

    Raises:
        ValueError: an argument is out of range.

    Examples:
        >>> [Polynomial(power=2.0)(progress) for progress in (0.0, 0.5, 1.0)]
        [1.0, 0.25, 0.0]
    """

    power: float = 1.0
    final_factor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_factor("final_factor")
        if not (math.isfinite(self.power) and self.power > 0):
            raise ValueError(f"Polynomial.power takes a number above 0, got {self.power}")

    def after_warmup(self, progress: float) -> float:
        """From 1 to `final_factor`."""
        return self.final_factor + (1 - self.final_factor) * (1 - progress) ** self.power

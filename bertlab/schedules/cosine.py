"""Cosine: half a cosine down."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bertlab.schedules.schedule import Schedule


@dataclass(frozen=True)
class Cosine(Schedule):
    """Down along half a cosine after the warm-up.

    One cycle of Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5.

    Restarts belong to `bertlab.schedules.sgdr`.

    Args:
        warmup_fraction: part of training, in [0, 1), over which the factor climbs from 0 to 1.
        final_factor: the factor at the end, in [0, 1].

    Raises:
        ValueError: an argument is out of range.

    Examples:
        >>> [round(Cosine()(progress), 3) for progress in (0.0, 0.25, 0.5, 0.75, 1.0)]
        [1.0, 0.854, 0.5, 0.146, 0.0]
    """

    final_factor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_factor("final_factor")

    def after_warmup(self, progress: float) -> float:
        """From 1 to `final_factor`."""
        return self.final_factor + (1 - self.final_factor) * 0.5 * (1 + math.cos(math.pi * progress))

"""SlantedTriangular: quickly up, slowly down."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bertlab.schedules.schedule import Schedule


@dataclass(frozen=True)
class SlantedTriangular(Schedule):
    """Up in a short straight line, down in a long one (Howard & Ruder 2018, arXiv:1801.06146, eq. 3).

    The factor starts at `1/ratio`, is 1 after `warmup_fraction` (the paper's cut_frac) of training, and ends
    at `1/ratio`. Unlike the paper's, the peak is not rounded down to a whole step.

    Args:
        warmup_fraction: part of training, in (0, 1), over which the factor climbs; the paper's cut_frac.
        ratio: how much smaller the lowest factor is than the highest, 1 or more.

    Raises:
        ValueError: an argument is out of range.

    Examples:
        >>> schedule = SlantedTriangular(warmup_fraction=0.1, ratio=32.0)
        >>> [schedule(progress) for progress in (0.0, 0.1, 1.0)]
        [0.03125, 1.0, 0.03125]
    """

    warmup_fraction: float = 0.1
    ratio: float = 32.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup_fraction == 0:
            raise ValueError("SlantedTriangular.warmup_fraction takes a number in (0, 1), got 0")
        if not (math.isfinite(self.ratio) and self.ratio >= 1):
            raise ValueError(f"SlantedTriangular.ratio takes a number of 1 or more, got {self.ratio}")

    def __call__(self, progress: float) -> float:
        """Eq. 3: `(1 + p·(ratio - 1)) / ratio`, with p the height of the triangle."""
        return (1 + super().__call__(progress) * (self.ratio - 1)) / self.ratio

    def after_warmup(self, progress: float) -> float:
        """The height of the falling side."""
        return 1 - progress

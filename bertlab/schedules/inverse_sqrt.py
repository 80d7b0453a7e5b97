"""InverseSqrt: down with the square root of the steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bertlab.schedules.schedule import Schedule


@dataclass(frozen=True)
class InverseSqrt(Schedule):
    """Down with the inverse square root of the steps done.

    Vaswani et al. 2017, arXiv:1706.03762, section 5.3. The paper ties the time scale to the warm-up; here it
    is `warmup_fraction` unless `timescale_fraction` gives it. As in the paper the factor is 1 where the
    warm-up ends, and `sqrt(timescale / (timescale + since))` later.

    Args:
        warmup_fraction: part of training, in [0, 1), over which the factor climbs from 0 to 1.
        timescale_fraction: part of training after which the factor has fallen to 1/√2; above 0.

    Raises:
        ValueError: an argument is out of range, or neither gives a time scale.

    Examples:
        >>> schedule = InverseSqrt(warmup_fraction=0.25)
        >>> [round(schedule(progress), 3) for progress in (0.0, 0.125, 0.25, 0.5, 1.0)]
        [0.0, 0.5, 1.0, 0.707, 0.5]
    """

    warmup_fraction: float = 0.1
    timescale_fraction: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        timescale = self.timescale_fraction
        if timescale is not None and not (math.isfinite(timescale) and timescale > 0):
            raise ValueError(f"InverseSqrt.timescale_fraction takes a number above 0, got {timescale}")
        if timescale is None and self.warmup_fraction == 0:
            raise ValueError(
                "InverseSqrt takes its time scale from warmup_fraction, which is 0: give timescale_fraction"
            )

    def after_warmup(self, progress: float) -> float:
        """1 at the end of the warm-up, then `sqrt(timescale / (timescale + since))`."""
        timescale = self.warmup_fraction if self.timescale_fraction is None else self.timescale_fraction
        since = progress * (1 - self.warmup_fraction)
        return math.sqrt(timescale / (timescale + since))

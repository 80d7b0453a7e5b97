"""Constant: the same rate throughout."""

from __future__ import annotations

from dataclasses import dataclass

from bertlab.schedules.schedule import Schedule


@dataclass(frozen=True)
class Constant(Schedule):
    """The full rate after the warm-up.

    Args:
        warmup_fraction: part of training, in [0, 1), over which the factor climbs from 0 to 1.

    Examples:
        >>> schedule = Constant(warmup_fraction=0.5)
        >>> [schedule(progress) for progress in (0.0, 0.25, 0.5, 1.0)]
        [0.0, 0.5, 1.0, 1.0]
    """

    def after_warmup(self, progress: float) -> float:
        """1, whatever the progress."""
        return 1.0

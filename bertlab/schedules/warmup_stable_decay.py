"""WarmupStableDecay: up, level, and down at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bertlab.schedules.schedule import Schedule


@dataclass(frozen=True)
class WarmupStableDecay(Schedule):
    """Warm-up, a long level stretch, and a fall of the form 1 - √x at the end.

    Hu et al. 2024 (MiniCPM), arXiv:2404.06395; the 1 - √x fall is Hägele et al. 2024, arXiv:2405.18392, eq.
    2.

    Args:
        warmup_fraction: part of training, in [0, 1), over which the factor climbs from 0 to 1.
        decay_fraction: part of training over which the factor falls, in (0, 1 - warmup_fraction].
        final_factor: the factor at the end, in [0, 1].

    Raises:
        ValueError: an argument is out of range, or warm-up and fall together are longer than training.

    Examples:
        >>> schedule = WarmupStableDecay(warmup_fraction=0.1, decay_fraction=0.2)
        >>> [round(schedule(progress), 3) for progress in (0.05, 0.1, 0.8, 0.85, 1.0)]
        [0.5, 1.0, 1.0, 0.5, 0.0]
    """

    decay_fraction: float = 0.1
    final_factor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_factor("final_factor")
        if not 0 < self.decay_fraction <= 1:
            raise ValueError(
                f"WarmupStableDecay.decay_fraction takes a number in (0, 1], got {self.decay_fraction}"
            )
        if self.warmup_fraction + self.decay_fraction > 1:
            raise ValueError(
                "WarmupStableDecay: warmup_fraction and decay_fraction together take at most 1, got "
                f"{self.warmup_fraction} + {self.decay_fraction}"
            )

    def after_warmup(self, progress: float) -> float:
        """1, then `1 - √x` with x the part of the fall that is done."""
        left = (1 - progress) * (1 - self.warmup_fraction)
        fallen = max(0.0, 1 - left / self.decay_fraction)
        return self.final_factor + (1 - self.final_factor) * (1 - math.sqrt(fallen))

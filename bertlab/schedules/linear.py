"""Linear: a straight line down."""

from __future__ import annotations

from dataclasses import dataclass

from bertlab.schedules.schedule import Schedule


@dataclass(frozen=True)
class Linear(Schedule):
    """Down in a straight line after the warm-up, as BERT was trained and fine-tuned.

    Devlin et al. 2019, arXiv:1810.04805, appendix A.2.

    Args:
        warmup_fraction: part of training, in [0, 1), over which the factor climbs from 0 to 1.
        final_factor: the factor at the end, in [0, 1].

    Raises:
        ValueError: an argument is out of range.

    Examples:
        >>> schedule = Linear(warmup_fraction=0.2)
        >>> [round(schedule(progress), 3) for progress in (0.0, 0.1, 0.2, 0.6, 1.0)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    final_factor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_factor("final_factor")

    def after_warmup(self, progress: float) -> float:
        """From 1 to `final_factor`."""
        return self.final_factor + (1 - self.final_factor) * (1 - progress)

"""LinearFromStart: the straight line down that BERT was pretrained with."""

from __future__ import annotations

from dataclasses import dataclass

from bertlab.schedules.schedule import Schedule


@dataclass(frozen=True)
class LinearFromStart(Schedule):
    """Down in a straight line that is counted from the first step, not from the end of the warm-up.

    The schedule of google-research/bert (`create_optimizer` in optimization.py): `tf.train.polynomial_decay` of power
    1 over the global step, overwritten by `step / warmup_steps` while the warm-up lasts. So the factor reaches 1 at the
    end of the warm-up and drops at once by `warmup_fraction`: invisible in pretraining (0.01), a tenth in fine-tuning
    as usual (0.1). `Linear` has no such step.

    Args:
        warmup_fraction: part of training, in [0, 1), over which the factor climbs from 0 to 1.
        final_factor: the factor at the end, in [0, 1].

    Raises:
        ValueError: an argument is out of range.

    Examples:
        >>> schedule = LinearFromStart(warmup_fraction=0.2)
        >>> [schedule(progress) for progress in (0.0, 0.1, 0.2, 0.5, 1.0)]
        [0.0, 0.5, 0.8, 0.5, 0.0]
    """

    final_factor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_factor("final_factor")

    def after_warmup(self, progress: float) -> float:
        """From `1 - warmup_fraction` to `final_factor`."""
        left = (1 - progress) * (1 - self.warmup_fraction)
        return self.final_factor + (1 - self.final_factor) * left

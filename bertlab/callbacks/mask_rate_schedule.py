"""MaskRateSchedule: pretraining begins with many masks, which become fewer."""

from __future__ import annotations

from typing import ClassVar

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.strategy import Run, Strategy
from bertlab.interfaces import Course


class MaskRateSchedule(Strategy):
    """Changes the share of tokens that pretraining predicts linearly from step to step.

    Ankner et al. 2024, "Dynamic Masking Rate Schedules for MLM Pretraining", arXiv:2305.15096, abstract of an earlier
    version: from 30 % to 15 % over the whole training, p(t) = p₀ + (p₁ − p₀) · t / T. Falling rates do better there
    than rising ones. Masks of validation stay at 15 % from the first step to the last, so that losses compare; the
    training loss falls by itself as masks become fewer, for what is left is easier to guess.

    Args:
        start_rate: share of the tokens of a sequence that is predicted in the first step, special ones counted, in
            (0, 1).
        end_rate: in the steps after the last of the change, in (0, 1).
        fraction: share of the optimizer steps over which the rate changes, in (0, 1]. Where that is not one step, the
            rate is the last one throughout.

    Raises:
        ValueError: an argument is out of range, or nothing would change.
    """

    touches: ClassVar[set[str]] = {"mask_rate", "inputs"}
    stages = 1

    def __init__(self, start_rate: float = 0.3, end_rate: float = 0.15, fraction: float = 1.0) -> None:
        if not (0 < start_rate < 1 and 0 < end_rate < 1):
            raise ValueError(
                f"MaskRateSchedule.start_rate and end_rate take shares in (0, 1), got {start_rate} and {end_rate}"
            )
        if start_rate == end_rate:
            raise ValueError(
                f"MaskRateSchedule.start_rate and end_rate are both {start_rate}: for a rate that does not change, set "
                "data.init_args.mask_rate"
            )
        if not 0 < fraction <= 1:
            raise ValueError(f"MaskRateSchedule.fraction takes a share in (0, 1], got {fraction}")
        self.start_rate, self.end_rate, self.fraction = start_rate, end_rate, fraction

    def prepare(self, trainer: Trainer, blocks: Blocks, horizon: Horizon) -> None:
        """Warn where there is no step to change over."""
        if not self._steps(horizon):
            rank_zero_warn(
                f"MaskRateSchedule.fraction {self.fraction:g} of the training is not one step: the mask rate is "
                f"end_rate, {self.end_rate:g}, from the first step on"
            )

    def apply(self, run: Run) -> None:
        """Set the rate of each step."""
        steps = self._steps(run.horizon)

        def rate(step: int) -> float:
            done = min(1.0, step / steps) if steps else 1.0
            return self.start_rate + (self.end_rate - self.start_rate) * done

        run.set_course(Course(mask_rate=rate))
        run.note("mask_rate", start=self.start_rate, end=self.end_rate, steps=steps)

    def _steps(self, horizon: Horizon) -> int:
        return round(self.fraction * horizon.total_steps)

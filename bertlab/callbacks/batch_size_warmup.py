"""BatchSizeWarmup: training begins with small batches, which grow."""

from __future__ import annotations

from typing import ClassVar

from lightning.pytorch import Trainer

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.data_course import course_data
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.strategy import Run, Strategy
from bertlab.interfaces import Course, Growth


class BatchSizeWarmup(Strategy):
    """Lets the number of sequences of an optimizer step grow linearly to that of the data module.

    Smith et al. 2018, "Don't Decay the Learning Rate, Increase the Batch Size", arXiv:1711.00489, section 3: the noise
    of the gradient goes with rate / batch size, so a batch that grows does for it what a rate that falls does. The
    largest batch that is worth its cost grows as the loss falls (McCandlish et al. 2018, arXiv:1812.06162). Geiping &
    Goldstein 2022, arXiv:2212.14034, section 4, pretrain a BERT with a batch that grows linearly. Here the rate is left
    to the schedule.

    The number of optimizer steps stays the same, so fewer sequences are seen in all. `PretrainingData` counts them:
    each comes once, later, as with its own batch_warmup_fraction, which has to be 0. Data with rows takes a random part
    of the rows of a step: the others are not seen in that epoch. A batch that max_tokens limits grows in its share of
    rows.

    Args:
        start_size: sequences of the first step, over all ranks and micro-batches, at least one for each micro-batch.
        fraction: share of the optimizer steps over which the batch grows, in (0, 1].

    Raises:
        ValueError: an argument is out of range.
    """

    touches: ClassVar[set[str]] = {"batch_size"}
    stages = 1

    def __init__(self, start_size: int = 8, fraction: float = 0.3) -> None:
        if start_size < 1:
            raise ValueError(f"BatchSizeWarmup.start_size takes a positive number, got {start_size}")
        if not 0 < fraction <= 1:
            raise ValueError(f"BatchSizeWarmup.fraction takes a share in (0, 1], got {fraction}")
        self.start_size, self.fraction = start_size, fraction
        self._full = 0

    def prepare(self, trainer: Trainer, blocks: Blocks, horizon: Horizon) -> None:
        """Learn how many sequences a step has; refuse a first step that is too small to be split.

        Raises:
            ValueError: it has fewer sequences than there are micro-batches on all ranks.
        """
        self._full = course_data(self, trainer).full_batch
        parts = trainer.world_size * trainer.accumulate_grad_batches
        if self.start_size < parts:
            raise ValueError(
                f"BatchSizeWarmup.start_size {self.start_size} cannot be split into {parts} micro-batches "
                f"({trainer.world_size} ranks × accumulate_grad_batches {trainer.accumulate_grad_batches}): set it to "
                f"{parts} or more"
            )

    def never_acts(self, run: Run) -> str | None:
        """The batch begins at its full size, or there is no step to grow over."""
        if self.start_size >= self._full:
            return f"start_size {self.start_size} is not less than the {self._full} sequences of a whole step"
        steps = self._growth(run.horizon).steps
        return None if steps else f"fraction {self.fraction:g} of the training is not one step"

    def apply(self, run: Run) -> None:
        """Let the batch grow."""
        growth = self._growth(run.horizon)
        if self.start_size < self._full and growth.steps:
            run.set_course(Course(batch_size=growth))
            run.note("batch_size", start=growth.start, end=self._full, steps=growth.steps)

    def _growth(self, horizon: Horizon) -> Growth:
        return Growth(self.start_size, round(self.fraction * horizon.total_steps))

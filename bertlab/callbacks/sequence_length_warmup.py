"""SequenceLengthWarmup: training begins with short sequences, which grow."""

from __future__ import annotations

from typing import ClassVar

from lightning.pytorch import Trainer

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.data_course import course_data
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.strategy import Run, Strategy
from bertlab.interfaces import Course


class SequenceLengthWarmup(Strategy):
    """Cuts training sequences to a length that grows linearly, in steps of a multiple, to their full length.

    Li, Zhang & He 2022, "The Stability-Efficiency Dilemma", arXiv:2108.06084, section 4: in optimizer step t of the
    first T a sequence has at most start + (end − start) · t / T tokens, rounded down to a multiple of 8; from step T on
    it has at most `end_length`, so it is whole unless that is less than the longest. In their trainings of GPT-2 long
    sequences go with extreme variances of the gradient at the beginning; short ones allowed larger batches and rates,
    and cost less. The authors' own implementation, in DeepSpeed, advises against a batch that grows beside it, since
    both take tokens from a step.

    What is cut off is lost for that step: nobody sees it until the same text comes again, in a later epoch (in
    pretraining, in a later pass over the corpus). A sequence counts as one whatever is left of it, so the number of
    steps, and of sequences in them, stays the same. [CLS] and [SEP] stay. A text loses the end that the tokenizer cuts;
    of a pair the longer text is cut first. Tags of words that are cut off are not trained on. In pretraining, masks are
    drawn after the cut, so the mask rate is kept; of a pair, A loses its beginning and B its end, so that what meets
    between them still does. Validation sequences are never cut.

    Args:
        start_length: tokens of a sequence at most in the first step, special ones included; labels of texts should be
            told from so much of a text.
        end_length: from the step on that ends the growth, to the end of training; null: the longest of the training
            data.
        fraction: share of the optimizer steps over which the length grows, in (0, 1]. Where that is not one step, it is
            `end_length` throughout.
        multiple: lengths on the way are rounded down to multiples of it: 8, for the tensor cores of GPUs.

    Raises:
        ValueError: an argument is out of range.
    """

    touches: ClassVar[set[str]] = {"length", "inputs"}
    stages = 1

    def __init__(
        self,
        start_length: int = 32,
        end_length: int | None = None,
        fraction: float = 0.3,
        multiple: int = 8,
    ) -> None:
        if start_length < 1 or multiple < 1:
            raise ValueError(
                "SequenceLengthWarmup.start_length and multiple take positive numbers, got "
                f"{start_length} and {multiple}"
            )
        if end_length is not None and end_length < start_length:
            raise ValueError(
                f"SequenceLengthWarmup.end_length takes at least start_length {start_length}, got {end_length}"
            )
        if not 0 < fraction <= 1:
            raise ValueError(f"SequenceLengthWarmup.fraction takes a share in (0, 1], got {fraction}")
        self.start_length, self.end_length = start_length, end_length
        self.fraction, self.multiple = fraction, multiple
        self._longest = 0

    def prepare(self, trainer: Trainer, blocks: Blocks, horizon: Horizon) -> None:
        """Learn how long the sequences of the training data are."""
        self._longest = course_data(self, trainer).longest_sequence

    def never_acts(self, run: Run) -> str | None:
        """No sequence is ever cut: none is longer than the first length, or there is no step to grow over."""
        if self._longest <= self.start_length:
            return f"start_length {self.start_length} is not less than the longest training sequence, {self._longest}"
        whole = self.end_length is None or self.end_length >= self._longest
        if self._steps(run.horizon) or not whole:
            return None
        return f"fraction {self.fraction:g} of the training is not one step"

    def apply(self, run: Run) -> None:
        """Limit the length in each step."""
        steps = self._steps(run.horizon)
        end = self._longest if self.end_length is None else self.end_length

        def limit(step: int) -> int:
            return length_at(step, steps, self.start_length, end, self.multiple)

        if self._longest > self.start_length:
            run.set_course(Course(length=limit))
            run.note("length", start=limit(0), end=end, steps=steps)

    def _steps(self, horizon: Horizon) -> int:
        return round(self.fraction * horizon.total_steps)


def length_at(step: int, steps: int, start: int, end: int, multiple: int) -> int:
    """Tokens of a sequence at most, after so many optimizer steps.

    >>> [length_at(step, 10, 32, 100, 8) for step in (0, 1, 2, 5, 9, 10, 11)]
    [32, 32, 40, 64, 88, 100, 100]
    """
    if step >= steps:
        return end
    length = start + (end - start) * step // steps
    return max(start, length - length % multiple)

"""Span: steps in a row in which the same is trained in the same stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from bertlab.planning.planned_step import PlannedStep

#: So many lengths, of the phases of a pretraining, each begin a span.
LENGTHS = 4


@dataclass(frozen=True)
class Span:
    """Steps in a row in which the same is trained, in the same stages, on sequences of the same length.

    Attributes:
        steps: of it, in order.
    """

    steps: tuple[PlannedStep, ...]

    @property
    def start(self) -> int:
        """Optimizer steps taken when it begins."""
        return self.steps[0].step

    @property
    def end(self) -> int:
        """Optimizer steps taken when it ends."""
        return self.steps[-1].step + self.steps[-1].steps

    @property
    def seconds(self) -> float | None:
        """That its steps take; None where none were timed."""
        known = [step.seconds for step in self.steps]
        return None if None in known else sum(s for s in known if s is not None)

    @property
    def memory(self) -> int | None:
        """Most bytes of its steps; None where they are not known."""
        known = [step.cost.memory for step in self.steps]
        return None if None in known else max(m for m in known if m is not None)

    def mean(self, quantity: str) -> float | None:
        """Mean of a quantity of the data over its steps; None where the data does not say."""
        found = [(step.data[quantity], step.steps) for step in self.steps if quantity in step.data]
        return sum(v * n for v, n in found) / sum(n for _, n in found) if found else None


def spans_of(steps: Sequence[PlannedStep]) -> list[Span]:
    """Divide the steps of a plan where something begins or ends.

    A length that changes all the time, as `SequenceLengthWarmup` has it, divides nothing: spans have its mean.
    """
    few = len({step.data.get("length") for step in steps}) <= LENGTHS

    def alike(step: PlannedStep) -> tuple[object, ...]:
        length = step.data.get("length") if few else None
        return step.stages, step.trained, length, step.open_by, step.class_weights is None

    return [Span(tuple(group)) for _, group in groupby(steps, key=alike)]

"""Plan: what a training will do, from its first step to its last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from bertlab.planning.planned_pass import PlannedPass
from bertlab.planning.planned_step import PlannedStep
from bertlab.planning.span import Span, spans_of
from bertlab.planning.strategy_stage import StrategyStage


@dataclass
class Plan:
    """What a training will do.

    Attributes:
        name: of the run.
        total_steps: optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of an epoch.
        steps: in order; of a long training a choice.
        stages: of the strategies, by strategy and in order.
        passes: over data, beside the steps, in order; none where no steps were timed.
        validations: optimizer steps taken before each validation.
        warnings: what will not happen as the configuration may have meant it.
        remarks: what the reader has to know of the numbers.
        device: kind of the device that was timed on.
        devices: how many share an optimizer step.
        parameters: of the whole model.
    """

    name: str
    total_steps: int
    steps_per_epoch: int
    steps: Sequence[PlannedStep]
    stages: Sequence[StrategyStage]
    passes: Sequence[PlannedPass]
    validations: Sequence[int]
    warnings: Sequence[str]
    remarks: Sequence[str]
    device: str
    devices: int
    parameters: int

    @cached_property
    def spans(self) -> list[Span]:
        """The steps divided where something begins or ends."""
        return spans_of(self.steps)

    @property
    def blocks(self) -> list[str]:
        """Names of the blocks, from the lowest up."""
        return list(self.steps[0].rates)

    @property
    def machine(self) -> str:
        """The devices, for readers."""
        return self.device if self.devices == 1 else f"{self.devices} × {self.device}"

    @property
    def first(self) -> int:
        """Optimizer steps taken already: 0, but in a resumed training."""
        return self.steps[0].step

    @property
    def epochs(self) -> float:
        """Of the whole training."""
        return self.total_steps / self.steps_per_epoch

    @property
    def seconds(self) -> float | None:
        """Of all optimizer steps, and of the passes beside them; None where no steps were timed."""
        known = [span.seconds for span in self.spans]
        beside = sum(made.seconds for made in self.passes)
        return None if None in known else beside + sum(s for s in known if s is not None)

    @property
    def memory(self) -> int | None:
        """Most bytes at any time; None where they are not known."""
        known = [span.memory for span in self.spans]
        return None if None in known else max(m for m in known if m is not None)

    @property
    def open_from(self) -> int | None:
        """The first step of which nobody knows what will hold, since it depends on a metric; None: all are known."""
        return next((step.step for step in self.steps if step.open_by), None)

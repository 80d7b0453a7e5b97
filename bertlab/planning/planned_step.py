"""PlannedStep: what holds during one optimizer step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bertlab.planning.cost import Cost


@dataclass(frozen=True)
class PlannedStep:
    """What holds during an optimizer step, or during several in a row of which this is the first.

    Attributes:
        step: optimizer steps taken before it.
        epoch: that it belongs to.
        steps: how many it stands for; 1, but in a long training.
        rates: learning rate of each block, from the lowest up: schedule × factors of strategies; also while it is
            frozen.
        trained: share of each block's parameters that is trained, in [0, 1].
        parameters: how many parameters are trained.
        stages: of each strategy, by its name.
        class_weights: in the training loss, by label; None: all one.
        data: quantities of the data; see `bertlab.interfaces.StepData`.
        open_by: what waits for a metric or for gradients and may have changed what stands here, by name; empty:
            nothing, so the step is known.
        cost: of the step.
    """

    step: int
    epoch: int
    steps: int
    rates: Mapping[str, float]
    trained: Mapping[str, float]
    parameters: int
    stages: Mapping[str, int]
    class_weights: Mapping[str, float] | None
    data: Mapping[str, float]
    open_by: tuple[str, ...]
    cost: Cost

    @property
    def seconds(self) -> float | None:
        """Of all steps that it stands for; None where none were timed."""
        each = self.cost.seconds_of(self.data.get("tokens"))
        return None if each is None else each * self.steps

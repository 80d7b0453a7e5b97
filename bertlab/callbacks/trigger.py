"""Trigger: when a strategy acts. It says at which optimizer steps the stages of a strategy begin.

Stage 0 begins at step 0. A trigger that goes by time knows all its stages before training; one that waits
for a metric (`OnPlateau`) learns them on the way and keeps them in the checkpoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from bertlab.callbacks.horizon import Horizon

#: What tells a trigger of stages that nobody knows beforehand: the metrics of a validation, or gradients.
Waited = Literal["validation", "gradients"]
_WORDS: dict[Waited | None, str] = {
    "validation": "a validation metric that settles",
    "gradients": "gradients that settle",
    None: "a later step",
}


class Trigger(ABC):
    """At which optimizer steps the stages of a strategy begin."""

    #: what a strategy has to lead for this trigger to follow it ("stage", "cycle"); None: follows nobody.
    follows: str | None = None

    @abstractmethod
    def starts(self, horizon: Horizon) -> Sequence[int]:
        """Steps at which stages 1, 2, … begin, in ascending order, as far as they are known."""

    def observe(self, metrics: Mapping[str, float], step: int, horizon: Horizon) -> None:
        """Learn from the metrics of a validation that ended after `step` optimizer steps."""
        return

    def watched_metrics(self) -> Sequence[str]:
        """Keys of the metrics that `observe` asks for."""
        return ()

    def state_dict(self) -> dict[str, Any]:
        """What it has learnt, in plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        return

    def stage_at(self, step: int, horizon: Horizon) -> int:
        """The stage that the step after `step` optimizer steps belongs to."""
        return bisect_right(self.starts(horizon), step)

    def span(self, stage: int, horizon: Horizon) -> tuple[int, int | None]:
        """First step of a stage and the first step after it; None where that is not known yet."""
        starts = [0, *self.starts(horizon)]
        end = starts[stage + 1] if stage + 1 < len(starts) else None
        if end is None and self.complete(horizon):
            end = horizon.total_steps
        return starts[stage], end

    def empty_stages(self, horizon: Horizon) -> list[int]:
        """Stages of the training that end at the step at which they begin, as far as is known."""
        starts = pairwise([0, *self.starts(horizon)])
        return [
            stage for stage, (begin, end) in enumerate(starts) if begin == end and begin < horizon.total_steps
        ]

    def waits_for(self, horizon: Horizon) -> Waited | None:
        """What tells of the next stage that `starts` does not list yet; None: it lists all."""
        return None

    def awaited(self, horizon: Horizon) -> str:
        """In words, what `waits_for` names."""
        return _WORDS[self.waits_for(horizon)]

    def complete(self, horizon: Horizon) -> bool:
        """Whether no stage can begin that `starts` does not list yet."""
        return self.waits_for(horizon) is None

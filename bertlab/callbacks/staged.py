"""Staged: in which stage a strategy is, by which trigger, and what of it a checkpoint keeps."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback

from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.trigger import Trigger
from bertlab.callbacks.triggers import AtStep


class Staged(Callback):
    """Has stages, which a trigger gives.

    Attributes:
        when: the trigger that moves it from stage to stage. A class attribute, or set in __init__.
        stages: how many stages there are; the last one lasts. None: as many as the trigger gives.
    """

    when: Trigger = AtStep()
    stages: int | None = None

    #: the stage entered last; −1 before training.
    entered: int = -1
    _trigger: Trigger | None = None
    _learnt: dict[str, Any] | None = None

    @property
    def trigger(self) -> Trigger:
        """This instance's own copy of `when`."""
        if self._trigger is None:
            self._trigger = copy.deepcopy(self.when)
            if self._learnt is not None:
                self._trigger.load_state_dict(self._learnt)
        return self._trigger

    def watched_metrics(self) -> Sequence[str]:
        """Keys of the validation metrics that it waits for; those of its trigger, which has to be prepared."""
        return self.trigger.watched_metrics()

    def stage_at(self, step: int, horizon: Horizon) -> int:
        """The stage that the step after `step` optimizer steps belongs to, as far as is known."""
        stage = self.trigger.stage_at(step, horizon)
        return stage if self.stages is None else min(stage, self.stages - 1)

    def span_of(self, stage: int, horizon: Horizon) -> tuple[int, int | None]:
        """First step of a stage, also of one whose beginning is not known yet, and the first step after it."""
        known = min(stage, len(self.trigger.starts(horizon)))
        start, end = self.trigger.span(known, horizon)
        return start, horizon.total_steps if stage + 1 == self.stages else end

    def state_dict(self) -> dict[str, Any]:
        """The stage entered last and what the trigger has learnt. Plain values and tensors only."""
        return {"entered": self.entered, "trigger": self.trigger.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.entered = state_dict["entered"]
        # Kept until the trigger is made, which may need to see the model first.
        self._trigger, self._learnt = None, state_dict["trigger"]

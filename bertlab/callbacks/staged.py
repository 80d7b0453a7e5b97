"""Staged: in which stage a strategy is, by which trigger, and what of it a checkpoint keeps."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

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
    _saved_stage: int | None = None  # in a checkpoint that is being restored
    #: whether a checkpoint has been taken back for the training that is about to begin, or under way.
    resumed: bool = False
    _first_state: dict[str, Any] | None = None  # as it was made

    @property
    def trigger(self) -> Trigger:
        """This instance's own copy of `when`.

        Raises:
            TypeError: `when` is no trigger.
        """
        if self._trigger is None:
            when: object = self.when
            if not isinstance(when, Trigger):
                shown = (
                    f"the class {when.__name__}: write {when.__name__}()"
                    if isinstance(when, type)
                    else repr(when)
                )
                raise TypeError(
                    f"{type(self).__name__}.when takes a trigger, such as AtStep(100) or EachEpoch(), and is {shown}"
                )
            self._trigger = copy.deepcopy(self.when)
            if self._learnt is not None:
                self._learn_again(self._trigger, self._learnt)
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

    def check_state(self) -> None:
        """Refuse a class whose checkpoints do not know its stage, or whose stage was not taken back from one.

        Raises:
            TypeError: its state_dict or load_state_dict leaves out what this class keeps.
        """
        name = type(self).__name__
        if not self.state_dict().keys() >= {"entered", "trigger"}:
            raise TypeError(
                f"{name}.state_dict leaves out the stage, so that a run that is resumed would begin with the first "
                "one: return super().state_dict() | {…}"
            )
        if self._saved_stage is not None and self._saved_stage != self.entered:
            raise TypeError(
                f"{name}.load_state_dict has not taken back the stage ({self._saved_stage} in the checkpoint): call "
                "super().load_state_dict(state_dict) in it"
            )
        self._saved_stage = None

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """See which stage `load_state_dict` is to take back; none, where no training goes on from the checkpoint."""
        if trainer.state.fn != "fit":
            # It would be of another training than the next one.
            checkpoint["callbacks"].pop(self.state_key, None)
            return
        self.resumed = True
        self._saved_stage = checkpoint["callbacks"].get(self.state_key, {}).get("entered")

    def remember_first_state(self) -> None:
        """Keep what it is before any training, for one that begins anew."""
        if self._first_state is None and self.entered < 0:
            try:
                self._first_state = copy.deepcopy(self.state_dict())
            except AttributeError:  # of what `prepare` makes, or training: see `begin_anew`
                return
            self._trigger = None  # `prepare` may set another `when`

    def begin_anew(self, task: LightningModule) -> None:
        """Be as before any training, at the first step of one that no checkpoint is taken back for.

        Args:
            task: that is to be trained, perhaps one that it has trained before.

        Raises:
            ValueError: it cannot be told what that was.
        """
        if self.entered < 0 or self.resumed:
            return
        if self._first_state is None:
            raise ValueError(
                f"{type(self).__name__} was in another training, and its state_dict cannot be asked before one, so "
                "that it cannot begin anew: give each training a strategy of its own"
            )
        self.load_state_dict(copy.deepcopy(self._first_state) | {"entered": -1, "trigger": None})
        self._saved_stage = -1  # to see that it was taken back

    def state_dict(self) -> dict[str, Any]:
        """The stage entered last and what the trigger has learnt. Plain values and tensors only.

        A subclass adds to it: `super().state_dict() | {…}`.
        """
        return {"entered": self.entered, "trigger": self.trigger.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; a subclass calls it too."""
        self.entered = state_dict["entered"]
        # Kept until the trigger is made, which may need to see the model first.
        self._trigger, self._learnt = None, state_dict["trigger"]

    def _learn_again(self, trigger: Trigger, learnt: dict[str, Any]) -> None:
        try:
            trigger.load_state_dict(learnt)
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"{type(self).__name__}: the checkpoint has the stages of another trigger, or of another number of "
                f"stages, than this run's {type(trigger).__name__} has. Go on with the settings that the training "
                "began with, or begin a new training"
            ) from error

"""Where in a stream of samples a training run is: derived from optimizer steps, kept as one number.

Beside it are kept, where a second stream was begun, the samples of each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch import Trainer

from bertlab.data.progress import steps_per_epoch
from bertlab.samplers.phases import StepSchedule

Position = tuple[StepSchedule, int, int, int]


class StreamPosition:
    """Turns the trainer's optimizer steps into samples, also after a resume with other ranks or batch sizes.

    Args:
        schedule: makes the schedule of a training of so many optimizer steps.
    """

    def __init__(self, schedule: Callable[[int], StepSchedule]) -> None:
        self._make = schedule
        self._schedule: StepSchedule | None = None
        #: samples of each stream that was begun, as the checkpoint says; until the trainer is restored too.
        self._resumed: list[int] | None = None
        self._shift = 0  # samples taken beyond those of the schedule, all of them of the first stream

    def renew(self) -> None:
        """Make the schedule anew when it is asked for next: what it is made of has changed."""
        self._schedule = None

    def schedule(self, trainer: Trainer) -> StepSchedule:
        """The schedule of the trainer's whole training.

        Raises:
            ValueError: the trainer has no end.
        """
        total = max(_total_steps(trainer), trainer.global_step)  # a finished run may be given an earlier end
        if self._schedule is None or self._schedule.total_steps != total:
            self._schedule = self._make(total)
        return self._schedule

    def samples(self, trainer: Trainer) -> int:
        """Samples consumed by the optimizer steps taken, of all ranks.

        Raises:
            ValueError: see `taken`.
        """
        return sum(self.taken(trainer))

    def taken(self, trainer: Trainer) -> list[int]:
        """Of the samples consumed, those of each stream that was begun.

        Raises:
            ValueError: the checkpoint's numbers cannot be matched with the schedule.
        """
        planned = self.schedule(trainer).taken(trainer.global_step)
        if self._resumed is not None:
            if self._resumed[1:] != planned[1:]:
                raise ValueError(
                    f"The checkpoint has consumed {_listed(self._resumed)} samples of the lengths of sequences in "
                    f"{trainer.global_step} optimizer steps; with phases, batch_size and trainer.max_steps as they are "
                    f"now, it would be {_listed(planned)}. They may change during the first length only, and such that "
                    "it has not ended yet: set them as they were."
                )
            self._shift = sum(self._resumed[:1]) - sum(planned[:1])
            self._resumed = None
        return [planned[0] + self._shift, *planned[1:]] if planned else []

    def at_first_batch(self, trainer: Trainer) -> Position | None:
        """Schedule, next step, end of the trainer's epoch, shift; asked for when the first batch is needed.

        None if the epoch has no batch left: with `max_steps` and without validation, Lightning asks for one more
        after it resumed from the end of an epoch.

        Raises:
            ValueError: the checkpoint is from the middle of an accumulation, whose gradients it lacks.
        """
        self.samples(trainer)
        done, accumulated = trainer.fit_loop.batch_idx + 1, trainer.accumulate_grad_batches
        if done % accumulated:
            raise ValueError(
                f"The checkpoint was saved after {done} micro-batches of its epoch, which are no whole number of "
                f"optimizer steps of accumulate_grad_batches {accumulated}. Resume from a checkpoint saved at an "
                "optimizer step, with the same accumulate_grad_batches."
            )
        left = steps_per_epoch(trainer) - done // accumulated
        schedule = self.schedule(trainer)
        stop = min(trainer.global_step + left, schedule.total_steps)
        return (schedule, trainer.global_step, stop, self._shift) if left > 0 else None

    def state_dict(self, trainer: Trainer) -> dict[str, Any]:
        """The samples consumed; with those of each stream, where a second one was begun."""
        taken = self.taken(trainer)
        return {"samples": sum(taken)} | ({"taken": taken} if len(taken) > 1 else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self._resumed = [int(number) for number in state.get("taken", [state["samples"]])]


def _listed(numbers: list[int]) -> str:
    return " + ".join(f"{number}" for number in numbers)


def _total_steps(trainer: Trainer) -> int:
    """Optimizer steps at which the trainer stops."""
    ends = [trainer.max_steps] if trainer.max_steps >= 0 else []
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        ends.append(trainer.max_epochs * steps_per_epoch(trainer))
    if not ends:
        raise ValueError(
            "trainer.max_steps and trainer.max_epochs leave training without an end, but phases are shares of it: "
            "set trainer.max_steps"
        )
    return max(1, min(ends))

"""Where in the data of several tasks a training run is: derived from the optimizer steps taken and a seeded draw."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

from bertlab.data.progress import EpochPosition, steps_per_epoch
from bertlab.data.task_names import KEY
from bertlab.samplers.task_mixture import Taken, TaskMixtureSampler


class MixturePosition:
    """Turns the trainer's optimizer steps into steps of each task, also after a resume.

    What was drawn before a checkpoint is taken from it, what comes after is drawn anew: so a run that goes on with more
    epochs, whose α may then be another, leaves out no row and takes none twice.
    """

    def __init__(self) -> None:
        self._epochs = EpochPosition()
        self._resumed: tuple[Taken, dict[str, int]] | None = None  # and the steps of each task's own epochs

    def now(self, trainer: Trainer, sampler: TaskMixtureSampler) -> Taken:
        """How far the training has come.

        Raises:
            ValueError: as `EpochPosition.now`; or a task has another number of steps in its own epochs than it had.
        """
        return self._since(trainer, sampler, *self._epochs.now(trainer))

    def at_first_batch(self, trainer: Trainer, sampler: TaskMixtureSampler) -> tuple[Taken] | None:
        """As `now`, when the first batch of an epoch is asked for; None if the epoch has no batch left.

        Raises:
            ValueError: as `now`; or the checkpoint is from the middle of an accumulation.
        """
        found = self._epochs.at_first_batch(trainer)
        return None if found is None else (self._since(trainer, sampler, *found),)

    def state_dict(self, trainer: Trainer, sampler: TaskMixtureSampler) -> dict[str, Any]:
        """Plain numbers: those of one task, and of each task the steps it has had and those of its own epoch."""
        counts = self.now(trainer, sampler).by_task
        tasks = {name: [count, sampler.samplers[name].steps_per_epoch] for name, count in counts.items()}
        return {**self._epochs.state_dict(trainer), "tasks": tasks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self._epochs.load_state_dict(state)
        tasks: dict[str, list[int]] = state["tasks"]
        counts = {name: count for name, (count, _) in tasks.items()}
        own = {name: steps for name, (_, steps) in tasks.items()}
        self._resumed = Taken(state["epoch"], state["steps"], counts), own

    def _since(self, trainer: Trainer, sampler: TaskMixtureSampler, epoch: int, steps: int) -> Taken:
        begin = Taken(0, 0, dict.fromkeys(sampler.samplers, 0))
        if self._resumed is not None:
            begin, own = self._resumed
            now = {name: task.steps_per_epoch for name, task in sampler.samplers.items()}
            if own != now:
                raise ValueError(
                    f"The checkpoint was saved with tasks of {own} optimizer steps in an epoch of their own, {KEY} "
                    f"makes it {now}. Keep the tasks, their batch_size, max_tokens and training rows as they were."
                )
        return sampler.advanced(begin, epoch, steps, steps_per_epoch(trainer))

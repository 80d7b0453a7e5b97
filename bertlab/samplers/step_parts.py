"""The sampler of pretraining: optimizer steps of a schedule, shared out over ranks and micro-batches by number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from torch.utils.data.distributed import DistributedSampler

from bertlab.interfaces import Course
from bertlab.samplers.phases import Step, StepSchedule


class StepPart(NamedTuple):
    """One micro-batch of an optimizer step.

    Attributes:
        step: the samples of the whole step.
        part: which of its parts, heaviest first.
        parts: over all ranks and micro-batches.
        limit: tokens of a sequence at most, what is more is cut; None: as the samples are.
        mask_rate: share of the tokens that is predicted; None: as the data has it.
    """

    step: Step
    part: int
    parts: int
    limit: int | None = None
    mask_rate: float | None = None


class StepPartSampler(DistributedSampler[Any]):
    """Yields one `StepPart` after another; which samples are in a part is left to who makes the examples.

    A subclass of DistributedSampler, for Lightning replaces any other sampler under DDP (Lightning #1995).

    Args:
        steps_per_epoch: optimizer steps of what the trainer calls an epoch.
        num_replicas: number of ranks.
        rank: this rank.
        micro_batches: micro-batches of a step on each rank (`accumulate_grad_batches`).
    """

    def __init__(
        self, steps_per_epoch: int, num_replicas: int = 1, rank: int = 0, micro_batches: int = 1
    ) -> None:
        # The base class asks its data set for its length only.
        super().__init__(cast(Any, range(steps_per_epoch)), num_replicas, rank, shuffle=False)
        self.steps_per_epoch, self.micro_batches = steps_per_epoch, micro_batches
        self._position: tuple[StepSchedule, int, int, int, Course] | None = None

    def resume(
        self, schedule: StepSchedule, step: int, stop: int, shift: int = 0, course: Course | None = None
    ) -> None:
        """Say where the next iteration begins and ends.

        Args:
            schedule: of the whole training.
            step: optimizer steps taken.
            stop: the step after the last of this iteration.
            shift: added to sample numbers of the first stream: samples taken before a resume with other batch
                sizes, beyond those of the schedule.
            course: how lengths and mask rates change; sizes are those of the schedule.

        Raises:
            ValueError: a step is smaller than the number of micro-batches it is to be split into.
        """
        parts = self.num_replicas * self.micro_batches
        if schedule.smallest < parts:
            raise ValueError(
                f"An optimizer step of {schedule.smallest} sequences cannot be split into {parts} micro-batches "
                f"({self.num_replicas} ranks × accumulate_grad_batches {self.micro_batches}): raise batch_size, "
                f"batch_tokens, batch_warmup_start or BatchSizeWarmup.start_size to at least {parts} sequences, or "
                "lower the others."
            )
        self._position = (schedule, step, stop, shift, course or Course())

    def __iter__(self) -> Iterator[StepPart]:
        """The micro-batches of this rank, from where `resume` said."""
        schedule, first, stop, shift, course = self._resumed()
        for number in range(first, stop):
            yield from self._parts(schedule, number, shift, course)

    def first_step(self) -> list[StepPart]:
        """The micro-batches of this rank in the step that `resume` has set, without iterating."""
        schedule, first, _, shift, course = self._resumed()
        return self._parts(schedule, first, shift, course)

    def _resumed(self) -> tuple[StepSchedule, int, int, int, Course]:
        if self._position is None:
            raise RuntimeError("resume() has to say first where the training is")
        return self._position

    def _parts(self, schedule: StepSchedule, number: int, shift: int, course: Course) -> list[StepPart]:
        """This rank's share of an optimizer step."""
        step = schedule.step(number)
        if shift:
            moved = step.first + shift if step.stream == 0 else step.first
            step = step._replace(first=moved, number=step.number + shift)
        parts = self.num_replicas * self.micro_batches
        limit = None if course.length is None else course.length(number)
        rate = None if course.mask_rate is None else course.mask_rate(number)
        mine = range(self.rank, parts, self.num_replicas)
        return [StepPart(step, part, parts, limit, rate) for part in mine]

    def __len__(self) -> int:
        """Micro-batches of a whole epoch of the trainer on this rank."""
        return self.steps_per_epoch * self.micro_batches

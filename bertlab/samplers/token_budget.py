"""The training sampler: an epoch as a list of optimizer steps, shared out over ranks and micro-batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
from torch.utils.data.distributed import DistributedSampler

from bertlab.interfaces import Course
from bertlab.samplers.course_rows import easy_step, grown_step, smallest_start, within_budget
from bertlab.samplers.micro_batch import MicroBatch, Rows, balanced_parts
from bertlab.samplers.steps import shuffled_steps, steps_for_rows, steps_for_tokens, stratified_steps


class DrawsRows(Protocol):
    """Chooses the rows of an epoch, such as `ClassBalanced`: always as many, possibly some twice."""

    def rows(self, epoch: int) -> Rows:
        """The rows of one epoch, a function of the epoch alone."""
        ...

    def longest(self, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Sorted descending, element by element at least as long as the rows of any epoch."""
        ...


class TokenBudgetSampler(DistributedSampler[Any]):
    """Yields one `MicroBatch` after another: for `DataLoader(dataset, sampler=…, batch_size=None)`.

    An epoch is a fixed number K of optimizer steps; which rows a step holds depends on (seed, epoch) alone.
    Each step is split by tokens into `num_replicas × micro_batches` parts, so one rank with 4 micro-batches
    and two ranks with 2 see the same rows in each step, and resuming needs one number: the steps taken.

    A subclass of DistributedSampler, for Lightning replaces any other sampler under DDP (Lightning #1995).

    Args:
        lengths: (n,) tokens of each row.
        batch_size: rows of an optimizer step at most, over all ranks and micro-batches. Steps are plain
            shuffles of nearly equal numbers of rows.
        max_tokens: tokens of an optimizer step at most, over all ranks and micro-batches. Steps are
            stratified by length, of nearly equal numbers of rows and tokens. At least one of the two is given.
        num_replicas: number of ranks.
        rank: this rank.
        micro_batches: micro-batches of a step on each rank (`accumulate_grad_batches`).
        seed: of the order.
        shuffle: False keeps the same steps in every epoch.
        draw: chooses the rows of each epoch; None takes every row once.

    Raises:
        ValueError: no limit, a sequence above `max_tokens`, or a step of fewer rows than micro-batches.
    """

    def __init__(
        self,
        lengths: npt.NDArray[np.int64],
        batch_size: int | None = None,
        max_tokens: int | None = None,
        num_replicas: int = 1,
        rank: int = 0,
        micro_batches: int = 1,
        seed: int = 0,
        shuffle: bool = True,
        draw: DrawsRows | None = None,
    ) -> None:
        if len(lengths) == 0:
            raise ValueError("The training split has no rows.")
        # The base class asks its data set for its length only.
        super().__init__(
            cast(Any, lengths),
            num_replicas=num_replicas,
            rank=rank,
            shuffle=shuffle,
            seed=seed,
            drop_last=False,
        )
        self.lengths = lengths
        self.micro_batches = micro_batches
        self.draw = draw
        self.max_tokens = max_tokens
        self.steps_per_epoch = self._count_steps(batch_size, max_tokens)
        self._resume_epoch, self._resume_steps, self._epoch_start = 0, 0, 0
        self._course = Course()
        self._check_parts()
        self._known: tuple[int, Rows, list[Rows]] | None = None  # an epoch, its rows and its steps

    def resume(self, epoch: int, steps: int, taken: int | None = None, course: Course | None = None) -> None:
        """Go on after `steps` optimizer steps of `epoch`; epochs after it begin at their beginning.

        Args:
            epoch: to go on in.
            steps: taken in it.
            taken: optimizer steps of the whole training; None: all epochs before had as many as this one.
            course: how steps change over the training.

        Raises:
            ValueError: the epoch has not so many steps, or one that has few rows at first cannot be split.
        """
        if not 0 <= steps <= self.steps_per_epoch:
            raise ValueError(f"Cannot resume after step {steps} of an epoch of {self.steps_per_epoch} steps.")
        self._resume_epoch, self._resume_steps = epoch, steps
        self._epoch_start = epoch * self.steps_per_epoch if taken is None else taken - steps
        self._course = course or Course()
        self._check_parts()
        self.set_epoch(epoch)

    def steps(self, epoch: int) -> list[Rows]:
        """The rows of every optimizer step of an epoch, the same on all ranks, before a course changes them."""
        return self._epoch(epoch)[1]

    def __iter__(self) -> Iterator[MicroBatch]:
        """The micro-batches of this rank from the current position to the end of the epoch."""
        rows, steps = self._epoch(self.epoch)
        before = self._epoch_start + (self.epoch - self._resume_epoch) * self.steps_per_epoch
        done = self._resume_steps if self.epoch == self._resume_epoch else 0
        for within in range(done, len(steps)):
            yield from self._parts(before + within, steps[within], rows)

    def first_step(self) -> list[MicroBatch]:
        """The micro-batches of this rank in the step that `resume` has set, without iterating."""
        rows, steps = self._epoch_kept(self._resume_epoch)
        return self._parts(self._epoch_start + self._resume_steps, steps[self._resume_steps], rows)

    def parts_of_step(self, step: int) -> list[MicroBatch]:
        """The micro-batches of this rank in an optimizer step, counted from 0 over all epochs."""
        epoch, within = divmod(step, self.steps_per_epoch)
        rows, steps = self._epoch_kept(epoch)
        return self._parts(step, steps[within], rows)

    def __len__(self) -> int:
        """Micro-batches of a whole epoch on this rank."""
        return self.steps_per_epoch * self.micro_batches

    def _epoch_kept(self, epoch: int) -> tuple[Rows, list[Rows]]:
        """`_epoch`, which is kept until another is asked for."""
        if self._known is None or self._known[0] != epoch:
            self._known = (epoch, *self._epoch(epoch))
        return self._known[1:]

    def _epoch(self, epoch: int) -> tuple[Rows, list[Rows]]:
        """The rows of an epoch, and those of every step of it."""
        generator = np.random.default_rng([self.seed, epoch if self.shuffle else 0])
        rows = np.arange(len(self.lengths)) if self.draw is None else self.draw.rows(epoch)
        if self.max_tokens is not None:
            return rows, stratified_steps(rows, self.lengths[rows], self.steps_per_epoch, generator)
        return rows, shuffled_steps(rows, self.steps_per_epoch, generator)

    def _parts(self, number: int, step_rows: Rows, epoch_rows: Rows) -> list[MicroBatch]:
        """This rank's share of an optimizer step, `number` steps after training began."""
        course, parts = self._course, self.num_replicas * self.micro_batches
        limit = None if course.length is None else course.length(number)
        lengths = self.lengths if limit is None else np.minimum(self.lengths, limit)
        chosen = easy_step(step_rows, epoch_rows, course.order, number, self.seed)
        chosen = within_budget(chosen, lengths[chosen], self.max_tokens, parts)
        chosen = grown_step(chosen, course.batch_size, number, self.seed)
        shares = balanced_parts(lengths[chosen], parts)
        easiest = None if course.order is None else course.order.share(number)
        # Parts come heaviest first: neighbours, alike in work, run at the same time on different ranks.
        return [
            MicroBatch(chosen[share], chosen, parts, limit, easiest)
            for share in shares[self.rank :: self.num_replicas]
        ]

    def _count_steps(self, batch_size: int | None, max_tokens: int | None) -> int:
        for name, value in (("batch_size", batch_size), ("max_tokens", max_tokens)):
            if value is not None and value < 1:
                raise ValueError(f"{name}: {value} is not a positive number.")
        steps = 0
        if batch_size is not None:
            steps = steps_for_rows(len(self.lengths), batch_size)
        if max_tokens is not None:
            row = int(np.argmax(self.lengths))
            if self.lengths[row] > max_tokens:
                raise ValueError(
                    f"max_tokens: {max_tokens} is less than the longest text: row {row} of the training split has "
                    f"{self.lengths[row]} tokens. Raise max_tokens or lower max_length."
                )
            lengths = self.lengths if self.draw is None else self.draw.longest(self.lengths)
            steps = max(steps, steps_for_tokens(lengths, max_tokens))
        if steps == 0:
            raise ValueError(
                "batch_size, max_tokens: both are null; give the size of an optimizer step by either."
            )
        return steps

    def _check_parts(self) -> None:
        parts = self.num_replicas * self.micro_batches
        smallest = smallest_start(self._course.batch_size, len(self.lengths) // self.steps_per_epoch)
        if smallest < parts:
            raise ValueError(
                f"An optimizer step of {smallest} rows cannot be split into {parts} micro-batches ({self.num_replicas} "
                f"ranks × accumulate_grad_batches {self.micro_batches}): raise batch_size or max_tokens, which count "
                f"all micro-batches of a step (with BatchSizeWarmup, its start_size too), to at least {parts} rows, or "
                f"lower the others. The training split has {len(self.lengths)} rows."
            )

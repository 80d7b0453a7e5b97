"""The sampler of several tasks: which of them an optimizer step is of, and which of their rows it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from torch.utils.data.distributed import DistributedSampler

from bertlab.samplers.micro_batch import MicroBatch
from bertlab.samplers.token_budget import TokenBudgetSampler

#: A micro-batch of an optimizer step: of each task that the step is of, its part.
TaskParts = dict[str, MicroBatch]


class Taken(NamedTuple):
    """How far a training has come in the data of each task.

    Attributes:
        epoch: of the mixture.
        steps: optimizer steps taken in it.
        by_task: of each task, how many optimizer steps have held rows of it since training began.
    """

    epoch: int
    steps: int
    by_task: Mapping[str, int]


def task_probabilities(sizes: Sequence[int], alpha: float) -> npt.NDArray[np.float64]:
    """(K,) probability of each of K tasks, proportional to the number of its rows to the power α.

    Stickland & Murray 2019, arXiv:1902.02671, section 4.1.

    Args:
        sizes: (K,) rows of each task, 1 or more.
        alpha: α: 1 is proportional to the rows, 0 gives all tasks the same.

    >>> task_probabilities([900, 100], 1.0).tolist(), task_probabilities([900, 100], 0.0).tolist()
    ([0.9, 0.1], [0.5, 0.5])
    >>> task_probabilities([900, 100], 0.5).tolist()
    [0.75, 0.25]
    """
    weights = np.asarray(sizes, dtype=np.float64) ** alpha
    return weights / weights.sum()


def annealed(first: float, last: float, epoch: int, epochs: int) -> float:
    """α of an epoch, on a line from the first to the last epoch.

    With 1 and 0.2 that is the annealed sampling of Stickland & Murray 2019, section 4.1:
    α = 1 − 0.8·(e − 1)/(E − 1), with e = epoch + 1 and E = epochs.

    Args:
        first: α of the first epoch, also where there is no other.
        last: α of the last one, and of any after it.
        epoch: counted from 0.
        epochs: of the whole training.

    >>> [round(annealed(1.0, 0.2, epoch, 5), 3) for epoch in range(6)]
    [1.0, 0.8, 0.6, 0.4, 0.2, 0.2]
    """
    return first + (last - first) * min(epoch / max(epochs - 1, 1), 1.0)


def draw_tasks(
    probabilities: npt.NDArray[np.float64], steps: int, tasks_per_step: int, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """(steps, k) the tasks of each step, k different ones, drawn one after another without putting back.

    By the k largest of log p + Gumbel noise, which is the same (Yellott 1977; Kool et al. 2019, arXiv:1903.06059,
    section 2.3). In a row tasks are in ascending order.

    Args:
        probabilities: (K,) above 0, of being drawn first.
        steps: how many.
        tasks_per_step: k, from 1 to K.
        generator: source of all randomness.
    """
    noise = generator.gumbel(size=(steps, len(probabilities)))
    order = np.argsort(-(np.log(probabilities) + noise), axis=1, kind="stable")
    return np.sort(order[:, :tasks_per_step], axis=1)


class TaskMixtureSampler(DistributedSampler[Any]):
    """Yields the micro-batches of optimizer steps that are each of one task, or of k different ones.

    Which tasks a step is of depends on (seed, epoch, α) alone, so all ranks draw the same. Each task goes through its
    own rows in its own epochs, whatever the others do: the n-th step that holds rows of it takes the rows of step n of
    its own sampler. Of a step with several tasks each micro-batch holds a part of the rows of each. So all that has to
    be kept for a resume is how many steps each task has had.

    A subclass of DistributedSampler, for Lightning replaces any other sampler under DDP (Lightning #1995).

    Args:
        samplers: of each task, alike in ranks and micro-batches.
        sizes: rows of each task.
        alpha: from an epoch of the mixture, counted from 0, to its α.
        tasks_per_step: k, how many tasks a step is of, from 1 to all.
        steps_per_epoch: of the mixture; None: as many as give k tasks a step the steps of one epoch of each.
        seed: of the draw.
    """

    def __init__(
        self,
        samplers: Mapping[str, TokenBudgetSampler],
        sizes: Mapping[str, int],
        alpha: Callable[[int], float],
        tasks_per_step: int = 1,
        steps_per_epoch: int | None = None,
        seed: int = 0,
    ) -> None:
        first = next(iter(samplers.values()))
        own_steps = sum(sampler.steps_per_epoch for sampler in samplers.values())
        self.steps_per_epoch = steps_per_epoch or -(-own_steps // tasks_per_step)
        # The base class asks its data set for its length only.
        super().__init__(
            cast(Any, range(self.steps_per_epoch)), first.num_replicas, first.rank, shuffle=False
        )
        self.samplers, self.sizes, self.alpha = dict(samplers), dict(sizes), alpha
        self.tasks_per_step, self.micro_batches, self.seed = tasks_per_step, first.micro_batches, seed
        self._taken = Taken(0, 0, dict.fromkeys(samplers, 0))

    def resume(self, taken: Taken) -> None:
        """Go on from there to the end of its epoch.

        Raises:
            ValueError: an epoch has fewer steps.
        """
        if not 0 <= taken.steps <= self.steps_per_epoch:
            raise ValueError(
                f"Cannot resume after step {taken.steps} of an epoch of {self.steps_per_epoch} steps."
            )
        self._taken = taken

    def tasks(self, epoch: int) -> list[tuple[str, ...]]:
        """The tasks of each optimizer step of an epoch, the same on all ranks."""
        names = list(self.samplers)
        chances = task_probabilities([self.sizes[name] for name in names], self.alpha(epoch))
        generator = np.random.default_rng([self.seed, epoch])
        drawn = draw_tasks(chances, self.steps_per_epoch, self.tasks_per_step, generator)
        return [tuple(names[task] for task in step) for step in drawn.tolist()]

    def advanced(self, taken: Taken, epoch: int, steps: int, steps_per_epoch: int) -> Taken:
        """How far the training has come later on.

        Args:
            taken: where it was.
            epoch: that it is in now.
            steps: taken in that epoch.
            steps_per_epoch: that are taken of each epoch, at most those that there are.
        """
        counts = dict(taken.by_task)
        for passed in range(taken.epoch, epoch + 1):
            first = taken.steps if passed == taken.epoch else 0
            last = steps if passed == epoch else steps_per_epoch
            for tasks in self.tasks(passed)[first:last]:
                for name in tasks:
                    counts[name] += 1
        return Taken(epoch, steps, counts)

    def __iter__(self) -> Iterator[TaskParts]:
        """The micro-batches of this rank from the current position to the end of the epoch."""
        counts = dict(self._taken.by_task)
        for tasks in self.tasks(self._taken.epoch)[self._taken.steps :]:
            yield from self._parts({name: counts[name] for name in tasks})
            for name in tasks:
                counts[name] += 1

    def first_step(self) -> list[TaskParts]:
        """The micro-batches of this rank in the step that `resume` has set, without iterating."""
        tasks = self.tasks(self._taken.epoch)[self._taken.steps]
        return self._parts({name: self._taken.by_task[name] for name in tasks})

    def __len__(self) -> int:
        """Micro-batches of a whole epoch on this rank."""
        return self.steps_per_epoch * self.micro_batches

    def _parts(self, steps: Mapping[str, int]) -> list[TaskParts]:
        """This rank's share of a step that takes of each task the rows of that number of its own steps."""
        shares = {name: self.samplers[name].parts_of_step(step) for name, step in steps.items()}
        return [{name: share[part] for name, share in shares.items()} for part in range(self.micro_batches)]

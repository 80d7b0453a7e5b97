"""The training loader: where an epoch begins is decided when its first batch is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch.utils.data import DataLoader

from bertlab.data.prefetch import ahead
from bertlab.interfaces import StepData


@runtime_checkable
class _TellsQuantities(Protocol):
    """A data set that knows what an optimizer step holds by any of its micro-batches."""

    def quantities(self, part: Any) -> dict[str, float]: ...

    def __getitem__(self, part: Any) -> Any: ...


@runtime_checkable
class _Resumes(Protocol):
    """A sampler that begins where it is told to."""

    def resume(self, *position: Any) -> None: ...

    def first_step(self) -> list[Any]: ...


@runtime_checkable
class _Prepares(Protocol):
    """A data set that has something to do once that each worker process would have to do for itself."""

    def prepare(self, part: Any) -> None: ...


class ResumableLoader(DataLoader[Any]):
    """A DataLoader whose iterator starts at the position that the trainer has reached.

    Lightning makes the first iterator before it tells the sampler its epoch, may make it before it restores a
    checkpoint (`estimated_stepping_batches`; Lightning #20550), and makes more of them than it uses after a
    resume. So an iterator here does nothing until its first batch is asked for: then it asks `position`, and
    only then are workers started and batches fetched ahead.

    Attributes:
        position: gives the arguments of the sampler's `resume`, such as (epoch, optimizer steps taken in it), or
            None where no batch is to come; without it the sampler begins where it is.
        batches_ahead: without worker processes, how many batches a thread makes before they are asked for.
    """

    position: Callable[[], tuple[Any, ...] | None] | None = None
    batches_ahead: int = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Batches from the current position to the end of the epoch."""
        if self.position is not None:
            assert isinstance(self.sampler, _Resumes)
            position = self.position()
            if position is None:
                return
            self.sampler.resume(*position)
            if self.num_workers > 0 and isinstance(self.dataset, _Prepares):
                self.dataset.prepare(self.sampler.first_step()[0])
        batches = super().__iter__()
        if self.batches_ahead and self.num_workers == 0:
            batches = ahead(batches, self.batches_ahead)
        yield from batches

    def foresee(self) -> StepData | None:
        """What the optimizer step that the trainer stands before takes.

        Asks for the position as an iterator does, and iterates nothing. None: the epoch has no step left, or the
        data set does not know what it holds.
        """
        if not isinstance(self.dataset, _TellsQuantities):
            return None
        assert isinstance(self.sampler, _Resumes)
        if self.position is not None:
            position = self.position()
            if position is None:
                return None
            self.sampler.resume(*position)
        parts = self.sampler.first_step()
        return StepData(self.dataset.quantities(parts[0]), lambda: [self.dataset[part] for part in parts])

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the position follows from the steps that the trainer counts; tells Lightning it is resumable."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore; see `state_dict`."""


def identity(batch: Any) -> Any:
    """Collate function of loaders whose data set gives whole batches (a named one, for workers pickle it)."""
    return batch


def loader_options(num_workers: int, seed: int) -> dict[str, Any]:
    """Arguments of a DataLoader whose sampler yields whole batches.

    Raises:
        ValueError: a negative number of workers.
    """
    if num_workers < 0:
        raise ValueError(f"data.init_args.num_workers takes 0 or more processes, got {num_workers}")
    return {
        "batch_size": None,
        "collate_fn": identity,
        "num_workers": num_workers,
        "pin_memory": torch.cuda.is_available(),
        # A loader draws a number whenever it is iterated: from its own generator, not from training's.
        "generator": torch.Generator().manual_seed(seed),
    }


def check_limit(trainer: Any, batches: int) -> None:
    """Refuse a limit of the training batches that would end each epoch inside an optimizer step.

    Its last step would be taken with a part of its rows, at a part of the gradient, and its samples be counted as
    consumed.

    Args:
        trainer: that the training loader is for.
        batches: micro-batches of an epoch, of this rank, without the limit: of whole steps.

    Raises:
        ValueError: names the keys and what is accepted.
    """
    limit, accumulated = trainer.limit_train_batches, trainer.accumulate_grad_batches
    taken = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    if taken % accumulated and not trainer.fast_dev_run:
        raise ValueError(
            f"trainer.limit_train_batches: {limit} takes {taken} of the {batches} micro-batches of an epoch, no "
            f"multiple of trainer.accumulate_grad_batches {accumulated}: the last optimizer step of each epoch would "
            f"be taken with a part of its rows. Accepted: a whole number that is a multiple of {accumulated}, such as "
            f"{max(1, round(taken / accumulated)) * accumulated}"
        )


def check_trainer(trainer: Any) -> None:
    """Refuse options of the trainer that would break the plan of optimizer steps; None passes.

    Raises:
        ValueError: names the option.
    """
    if trainer is None:
        return
    if trainer.accumulate_grad_batches < 1:
        raise ValueError(
            f"trainer.accumulate_grad_batches takes 1 or more, got {trainer.accumulate_grad_batches}."
        )
    if trainer.overfit_batches:
        raise ValueError(
            f"trainer.overfit_batches: {trainer.overfit_batches} would replace the sampler. Use "
            "trainer.limit_train_batches, or a file with few rows."
        )
    if any(isinstance(callback, GradientAccumulationScheduler) for callback in trainer.callbacks):
        raise ValueError(
            "trainer.callbacks: GradientAccumulationScheduler changes the number of micro-batches during "
            "training, but optimizer steps are planned with accumulate_grad_batches. Use that alone."
        )

"""What callbacks may ask of a data module, its rows and its loader."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from bertlab.interfaces.batches import TextBatch
from bertlab.interfaces.steps import Course, PoissonDraw, StepData


@runtime_checkable
class FixedRows(Protocol):
    """The rows of a split, any of which can be had at any time."""

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(n,) tokens of each row."""
        ...

    def batch(self, rows: npt.NDArray[np.int64]) -> TextBatch:
        """Some rows, in order of descending length."""
        ...


@runtime_checkable
class HasFixedRows(Protocol):
    """A data module whose rows can be had beside the batches of its loaders."""

    def dataset(self, name: str) -> FixedRows:
        """The rows of "train" or "validation", numbered as `TextBatch.index` numbers them."""
        ...


@runtime_checkable
class DrawsPoisson(Protocol):
    """A data module that can draw each row for each optimizer step independently of all others."""

    def draw_poisson(self, entropy: int | None) -> PoissonDraw:
        """Draw so from the next training loader on; called before it is made.

        Args:
            entropy: decides about the draws; None: the seed does.

        Raises:
            ValueError: options that make a row's part in a step depend on other rows.
        """
        ...

    def end_poisson(self) -> None:
        """Draw as ever again, from the next training loader on."""
        ...


@runtime_checkable
class FollowsCourse(Protocol):
    """A data module whose training data can change from one optimizer step to the next."""

    @property
    def course_parts(self) -> frozenset[str]:
        """What of a `Course` it can follow, by attribute."""
        ...

    @property
    def longest_sequence(self) -> int:
        """Tokens of a training sequence at most, special ones included."""
        ...

    @property
    def full_batch(self) -> int:
        """Sequences of a whole optimizer step, over all ranks and micro-batches; of several sizes the largest."""
        ...

    def follow(self, course: Course) -> None:
        """Follow a course from the next iteration of the training loader on; `Course()` changes nothing.

        Raises:
            ValueError: it cannot be followed; the message names the key of the data module that stands against it.
        """
        ...


@runtime_checkable
class HasRowScores(Protocol):
    """A data module that knows a score of each training row, from the user."""

    def row_scores(self, source: str) -> npt.NDArray[np.float64]:
        """(n,) the score of each training row.

        Args:
            source: path of a table with columns `id` and `score`; or `column:<name>`, a column beside the rows.

        Raises:
            ValueError: there is no such table or column, the rows have no ids, or one has no score.
        """
        ...


@runtime_checkable
class HasClassCounts(Protocol):
    """A data module that knows the classes of its training split."""

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The names of the C classes in the order of their ids; None for regression."""
        ...

    def class_counts(self) -> Tensor:
        """(C,) int64: rows of the training split of each class (of multi-label data: positive rows)."""
        ...


@runtime_checkable
class KnowsValidation(Protocol):
    """A data module that says whether it has anything to validate on."""

    @property
    def has_validation(self) -> bool:
        """Whether there is a validation split; asked for when it is set up to train."""
        ...


@runtime_checkable
class ForeseesSteps(Protocol):
    """A training loader that tells what a step takes, without being iterated."""

    def foresee(self) -> StepData | None:
        """What the optimizer step takes that the trainer stands before; None: there is none left."""
        ...

"""What an optimizer step takes, and how that changes over a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class StepData(NamedTuple):
    """What an optimizer step takes, known before it is taken.

    Attributes:
        quantities: of the whole step, over all ranks and micro-batches: `sequences`; `tokens`; where the data has them
            `length`, tokens of a sequence at most, `mask_rate`, and `easiest_share`, of the rows that it is drawn from.
            Others may follow: whoever shows them shows all.
        batches: makes the micro-batches of this rank.
    """

    quantities: Mapping[str, float]
    batches: Callable[[], list[Any]]


class Growth(NamedTuple):
    """A batch that grows.

    Attributes:
        start: sequences of the first optimizer step.
        steps: optimizer steps after which it has its full size.
    """

    start: int
    steps: int

    def size(self, step: int, full: int) -> int:
        """Sequences of a step that would have `full` of them, `step` optimizer steps after training began."""
        if step >= self.steps or self.start >= full:
            return full
        return self.start + (full - self.start) * step // self.steps


class Order(NamedTuple):
    """Easy rows first.

    Attributes:
        ranks: (n,) of each training row, the share of the rows that are as easy or easier, in (0, 1].
        share: from optimizer steps taken to the share of the rows, the easiest, that the next step draws from.
    """

    ranks: npt.NDArray[np.float64]
    share: Callable[[int], float]


@dataclass(frozen=True)
class Course:
    """How the training data changes from one optimizer step to the next; validation data never does.

    Everything is a function of the optimizer steps taken before a step, handed over before training begins: so what is
    drawn ahead, by any number of workers, on any rank, or after a resume, is what belongs to the step that it is for.

    Attributes:
        length: tokens of a sequence at most, special ones included, by steps taken; None: as the data has it.
        mask_rate: share of the tokens that is predicted, in (0, 1), by steps taken.
        batch_size: how the batch grows.
        order: which rows are drawn from.
    """

    length: Callable[[int], int] | None = None
    mask_rate: Callable[[int], float] | None = None
    batch_size: Growth | None = None
    order: Order | None = None

    @property
    def parts(self) -> dict[str, Any]:
        """What it changes, by attribute."""
        found = {known.name: getattr(self, known.name) for known in fields(self)}
        return {name: value for name, value in found.items() if value is not None}

    def values(self, step: int) -> dict[str, float]:
        """What holds after so many optimizer steps, as far as the steps alone tell."""
        found = {"length": self.length, "mask_rate": self.mask_rate}
        known = {name: float(curve(step)) for name, curve in found.items() if curve is not None}
        return known if self.order is None else known | {"easiest_share": float(self.order.share(step))}


class PoissonDraw(NamedTuple):
    """How the rows of optimizer steps are drawn: each by a coin of its own.

    Attributes:
        rate: the probability of a row to be in a step, in (0, 1].
        rows: of the training split.
    """

    rate: float
    rows: int

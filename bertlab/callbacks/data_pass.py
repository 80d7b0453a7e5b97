"""DataPass: a pass over data that a strategy makes beside the steps of training."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass


@dataclass(frozen=True)
class DataPass:
    """A pass over data that a strategy makes before an optimizer step, for `bertlab plan` to time a part of it.

    Attributes:
        what: it does, for readers.
        key: tells it from the one before. A pass of the same key is not made again, unless there was none in between.
        amount: of the whole pass on the rank that has most of it to do, 0 or more, in the unit of `pieces`; the same
            on all ranks.
        pieces: does the pass piece by piece, and gives how much of `amount` each was. Nothing of it is kept. All ranks
            have the same number of pieces: they may wait for each other in one.
    """

    what: str
    key: str
    amount: int
    pieces: Callable[[], Generator[int]]

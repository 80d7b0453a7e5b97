"""PlannedPass: a pass over data beside the optimizer steps, of which a few pieces were timed."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from lightning.pytorch import Trainer

from bertlab.callbacks.data_pass import DataPass

#: A piece that takes longer than this many seconds is the last one.
LONG = 10.0


@dataclass(frozen=True)
class PlannedPass:
    """A pass over data that a strategy makes beside the optimizer steps.

    Attributes:
        strategy: its name.
        what: it does, for readers.
        step: optimizer steps taken before it.
        seconds: that it takes.
    """

    strategy: str
    what: str
    step: int
    seconds: float


def seconds_of(made: DataPass, trainer: Trainer, count: int) -> float:
    """Seconds of a whole pass, in proportion to those of a few of its pieces.

    Args:
        made: the pass.
        trainer: that stands where it is made.
        count: pieces to time, after one that warms up, 1 or more; the first ones once more where there are fewer.
    """
    if made.amount == 0:
        return 0.0
    rates: list[float] = []
    pieces = made.pieces()
    try:
        while len(rates) <= count:
            _synchronise(trainer)
            begin = time.perf_counter()
            done = next(pieces, None)
            _synchronise(trainer)
            seconds = time.perf_counter() - begin
            if done is None:
                pieces = made.pieces()
                continue
            rates.append(seconds / done)
            if trainer.strategy.broadcast(seconds) > LONG:  # ranks that wait for each other stop together
                break
    finally:
        pieces.close()
    return made.amount * statistics.median(rates[1:] or rates)


def _synchronise(trainer: Trainer) -> None:
    if trainer.strategy.root_device.type != "cpu":
        torch.accelerator.synchronize()

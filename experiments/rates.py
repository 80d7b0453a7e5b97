"""From the file that a clock has written (`experiments.clocks`) to step times and rates of training."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.turns import STEPS, within_turn


@dataclass(frozen=True)
class Throughput:
    """Speed of training, without start-up, validation and warm-up epochs.

    Attributes:
        examples: a second.
        tokens: real ones, that is without padding, a second.
        step_seconds: median over the steps, each from its start to the start of the next.
    """

    examples: float
    tokens: float
    step_seconds: float


def read_clock(path: Path) -> dict[str, Any]:
    """What `experiments.clocks` has written."""
    return json.loads(path.read_text(encoding="utf-8"))


def epoch_seconds(clock: Mapping[str, Any]) -> list[float]:
    """Of each epoch the time from its first step to the end of its last one.

    Args:
        clock: of `read_clock`.
    """
    return [epoch["ends"][-1] - epoch["starts"][0] for epoch in clock["epochs"]]


def throughput(clock: Mapping[str, Any], warm_up_epochs: int) -> Throughput:
    """Rows and tokens of the epochs after the first ones over the time from their first step to the end of their last.

    Of processes that trained in turn, the time from the first step to the end of the last one of each turn.

    Args:
        clock: of `read_clock`.
        warm_up_epochs: epochs that are left out at the beginning.

    Raises:
        ValueError: no epoch is left.
    """
    epochs = clock["epochs"][warm_up_epochs:]
    if not epochs:
        raise ValueError(f"a clock of {len(clock['epochs'])} epochs, {warm_up_epochs} of them warm-up")
    in_turn = clock.get("in_turn", False)
    seconds = sum(training_seconds(epoch["starts"], epoch["ends"], in_turn) for epoch in epochs)
    return Throughput(
        clock["rows_per_epoch"] * len(epochs) / seconds,
        clock["tokens_per_epoch"] * len(epochs) / seconds,
        statistics.median(step_times(clock, warm_up_epochs)),
    )


def training_seconds(starts: Sequence[float], ends: Sequence[float], in_turn: bool, first: int = 0) -> float:
    """From the beginning of a step to the end of the last one; in turn with others, of each turn.

    Args:
        starts: of the steps.
        ends: of the steps.
        in_turn: whether other processes trained in between.
        first: step from which on it counts.
    """
    size = STEPS if in_turn else len(ends)
    turns = [(max(begin, first), min(begin + size, len(ends))) for begin in range(0, len(ends), size)]
    return sum(ends[end - 1] - starts[begin] for begin, end in turns if begin < end)


def step_times(clock: Mapping[str, Any], warm_up_epochs: int) -> list[float]:
    """Seconds of each step of the epochs after the first ones, from its start to the start of the next.

    So it includes all that lies between two steps: fetching the batch, logging, callbacks. The last step of
    an epoch, which validation follows, is left out; and the last one of a turn, if processes have trained in turn.
    """
    in_turn = clock.get("in_turn", False)
    return [
        after - before
        for epoch in clock["epochs"][warm_up_epochs:]
        for step, (before, after) in enumerate(zip(epoch["starts"], epoch["starts"][1:], strict=False))
        if not in_turn or within_turn(step)
    ]

"""Holding: what strategies together make of one optimizer step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from bertlab.callbacks.run import Run


@dataclass(frozen=True)
class Holding:
    """What holds during an optimizer step, beside what is trained, which the parameters themselves tell.

    Attributes:
        step: optimizer steps taken before it.
        stages: stage of each strategy, under its `state_key`.
        factors: factor on the rate of each block, under its name; 1 of those that are not there.
        class_weights: (C,) weights of the classes in the training loss; None: all one.
    """

    step: int
    stages: Mapping[str, int]
    factors: Mapping[str, float]
    class_weights: Tensor | None


def holding_of(step: int, stages: Mapping[str, int], runs: Sequence[Run]) -> Holding:
    """What the wishes of all strategies come to.

    Args:
        step: optimizer steps taken before it.
        stages: that the strategies are in, under their `state_key`.
        runs: as they see it in these stages.
    """
    factors: defaultdict[str, float] = defaultdict(lambda: 1.0)
    weights: Tensor | None = None
    for run in runs:
        since = step - run.stage_start
        for blocks, factor in run.wishes.factors_at(since):
            for block in blocks:
                factors[block.name] *= factor
        wish = run.wishes.class_weights_at(since)
        weights = weights if wish is None else wish
    return Holding(step, stages, dict(factors), weights)

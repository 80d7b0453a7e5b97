"""The stages of unfreezing: one by hand, or a list of them made from a plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.trigger import Trigger
from bertlab.callbacks.triggers import AtEpoch, AtFraction, AtStep, OnPlateau

#: Blocks of the task rather than of the pretrained trunk: a made plan trains them from its first stage on.
TOP = ("pooler", "head")


@dataclass
class Stage:
    """One stage, by hand.

    Attributes:
        train: blocks to train, the others are frozen: names ("head"), ranges ("layer.2-layer.5"), regular
            expressions, or "all".
        until_step: optimizer steps done in the whole run when the stage ends.
        until_epoch: epochs done when it ends; may be a fraction.
        until_fraction: fraction of training done when it ends.
        until_plateau: metric whose plateau ends it; of the four `until_…` one, and none for the last stage.
        patience: validations without betterment that make a plateau.
        mode: whether less ("min") or more ("max") of that metric is better.
        lr_factor: factor on the rate of what is trained, during the stage.
    """

    train: list[str]
    until_step: int | None = None
    until_epoch: float | None = None
    until_fraction: float | None = None
    until_plateau: str | None = None
    patience: int = 1
    mode: Literal["min", "max"] = "min"
    lr_factor: float = 1.0

    def end(self) -> Trigger | None:
        """When it ends; None: it has no end.

        Raises:
            ValueError: several `until_…` at once, or one that is out of its range; the message names them.
        """
        ends: dict[str, Callable[[Any], Trigger]] = {
            "until_step": AtStep,
            "until_epoch": AtEpoch,
            "until_fraction": AtFraction,
            "until_plateau": lambda metric: OnPlateau(metric, self.patience, self.mode),
        }
        given = [name for name in ends if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} clash: a stage ends in one way")
        for name in given:
            try:
                return ends[name](getattr(self, name))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return None

    def end_by_the_clock(self, horizon: Horizon) -> float | None:
        """The optimizer step at which it ends, not rounded; None if it waits for a plateau."""
        if self.until_step is not None:
            return self.until_step
        if self.until_epoch is not None:
            return self.until_epoch * horizon.steps_per_epoch
        return None if self.until_fraction is None else self.until_fraction * horizon.total_steps


def planned(
    plan: str, names: Sequence[str], blocks_per_stage: int = 1, top: int | None = None
) -> list[list[str]]:
    """The blocks that each stage of a made plan trains.

    Args:
        plan: "gradual", "top_k" or "chain_thaw".
        names: of all blocks, from the bottom up.
        blocks_per_stage: of "gradual".
        top: of "top_k".

    Examples:
        >>> planned("gradual", ["embeddings", "layer.0", "layer.1", "head"], blocks_per_stage=2)
        [['head'], ['layer.0', 'layer.1', 'head'], ['embeddings', 'layer.0', 'layer.1', 'head']]
        >>> planned("chain_thaw", ["embeddings", "layer.0", "head"])
        [['head'], ['embeddings'], ['layer.0'], ['embeddings', 'layer.0', 'head']]
        >>> planned("top_k", ["embeddings", "layer.0", "pooler", "head"], top=1)
        [['pooler', 'head'], ['layer.0', 'pooler', 'head']]
    """
    own = [name for name in names if name in TOP]
    trunk = [name for name in names if name not in TOP]
    if plan == "top_k":
        return [own, trunk[max(0, len(trunk) - (top or 0)) :] + own]
    if plan == "chain_thaw":
        return [own, *([name] for name in trunk), trunk + own]
    stages = [own]
    for count in range(blocks_per_stage, len(trunk) + blocks_per_stage, blocks_per_stage):
        stages.append(trunk[max(0, len(trunk) - count) :] + own)
    return stages


def ends_of(stages: Sequence[Stage]) -> list[Trigger]:
    """How each of the stages but the last ends.

    Raises:
        ValueError: one of them has no end, an end that is out of its range, or several; or the last has one.
    """
    ends: list[Trigger | None] = []
    for index, stage in enumerate(stages):
        try:
            ends.append(stage.end())
            if not 0 <= stage.lr_factor < math.inf:
                raise ValueError(f"lr_factor takes a factor of 0 or more, got {stage.lr_factor}")
            if not stage.train:
                raise ValueError("train is empty; list the blocks that are trained")
        except ValueError as error:
            raise ValueError(f"StagedUnfreezing.stages, stage {index}: {error}") from error
    missing = [index for index, end in enumerate(ends[:-1]) if end is None]
    if missing or ends[-1] is not None:
        raise ValueError(
            "StagedUnfreezing.stages: each stage but the last needs one of until_step, until_epoch, until_fraction, "
            "until_plateau, and the last has none; "
            + (f"stage {missing[0]} has none" if missing else f"stage {len(ends) - 1} has one")
        )
    return [end for end in ends if end is not None]


def check_order(stages: Sequence[Stage], horizon: Horizon) -> None:
    """Stages by hand must follow one another.

    Compared before rounding to whole steps: in a very short run two ends may fall on the same step.

    Raises:
        ValueError: a stage that ends, by the clock, before or when the one before it ends.
    """
    previous = 0.0
    for index, stage in enumerate(stages[:-1]):
        end = stage.end_by_the_clock(horizon)
        if end is None:
            continue
        if end <= previous:
            raise ValueError(
                f"StagedUnfreezing: stages overlap or go backwards: stage {index} would end at optimizer step "
                f"{end:g}, and the one before it at {previous:g} (an epoch has {horizon.steps_per_epoch} steps, "
                f"training {horizon.total_steps})"
            )
        previous = end

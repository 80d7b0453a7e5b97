"""Strategies whose arguments leave everything as it is say so before training."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.cost_weighted_loss import CostWeightedLoss
from bertlab.callbacks.effects import LOOKED_AT, has_effect
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.lr_restarts import LrRestarts
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.strategy import Run, Strategy
from bertlab.callbacks.unfreezing_plans import Stage
from tests.callbacks.tiny import TinyData, TinyTask, fit

THROUGHOUT = "in every step of this training it"


class Bends(Strategy):
    """Changes rates by a curve of its own."""

    touches: ClassVar[set[str]] = {"lr"}

    def __init__(self, curve: Callable[[int], float]) -> None:
        self.curve = curve

    def apply(self, run: Run) -> None:
        run.anneal_lr(self.curve)


class Alike(TinyData):
    """As many rows of each class."""

    def class_counts(self) -> Tensor:
        return torch.tensor([30, 30, 30])


def said(strategy: Strategy, root: Path, data: TinyData | None = None) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit([strategy], root, data=data, epochs=1)
    return [m for m in (str(warning.message) for warning in caught) if THROUGHOUT in m]


def equal_costs(**arguments: float) -> CostWeightedLoss:
    return CostWeightedLoss("costs", costs={"ham": 2.0, "spam": 2.0, "news": 2.0}, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("strategy", "data", "message"),
    [
        (equal_costs(), None, "CostWeightedLoss never acts: {} weighs all classes alike"),
        (equal_costs(anneal_fraction=0.5), None, "CostWeightedLoss never acts: {} weighs all classes alike"),
        (CostWeightedLoss(), Alike(), "CostWeightedLoss never acts: {} weighs all classes alike"),
        (
            LrRestarts(cycle_steps=2, minimum_factor=1.0),
            None,
            "LrRestarts: {} leaves all rates as they are",
        ),
        (
            StagedUnfreezing(stages=[Stage(["all"], until_plateau="val/loss"), Stage(["all"])]),
            None,
            "StagedUnfreezing: {} leaves all rates as they are and freezes nothing",
        ),
        (Bends(lambda _: 1.0), None, "Bends never acts: {} leaves all rates as they are"),
    ],
)
def test_arguments_without_effect(
    strategy: Strategy, data: TinyData | None, message: str, tmp_path: Path
) -> None:
    assert said(strategy, tmp_path, data) == [message.format(THROUGHOUT)]


@pytest.mark.parametrize(
    "strategy",
    [
        CostWeightedLoss(start_fraction=0.5, anneal_fraction=0.5),
        LrRestarts(cycle_steps=2, minimum_factor=0.9),
        LrRestarts(
            "plateau", plateau="val/loss", cycle_steps=2, minimum_factor=1.0
        ),  # nobody knows its cycles
        StagedUnfreezing(stages=[Stage(["all"], until_step=3), Stage(["all"], lr_factor=0.5)]),
        StagedUnfreezing(stages=[Stage(["all"], until_plateau="val/loss"), Stage(["head"])]),
        Bends(lambda step: 0.5 if step == 5 else 1.0),  # the last step
    ],
)
def test_arguments_with_an_effect(strategy: Strategy, tmp_path: Path) -> None:
    assert said(strategy, tmp_path) == []


def test_of_a_long_training_few_steps_are_looked_at() -> None:
    """So that the start of a fit takes no longer for it."""
    total, asked = 3_000_000, list[int]()
    strategy = Bends(lambda step: asked.append(step) or 1.0)
    run = Run(
        strategy="Bends",
        touches={"lr"},
        stage=0,
        span=(100, total),
        horizon=Horizon(total, total),
        blocks=Blocks(TinyTask().blocks()),
        trainer=None,  # type: ignore[arg-type]
        record=lambda *_: None,
        starting_weights={},
    )
    strategy.apply(run)
    assert not has_effect(run, total)
    assert (len(asked), asked[0], asked[-1]) == (LOOKED_AT, 0, total - 101)
    asked.clear()
    assert not has_effect(run, 103)
    assert asked == [0, 1, 2]
    assert not has_effect(run, 100)

"""What is wrong in a strategy of one's own is said in its words, before anything comes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from bertlab.callbacks.cost_weighted_loss import CostWeightedLoss
from bertlab.callbacks.exponential_average import ExponentialAverage
from bertlab.callbacks.frozen_trunk_cache import FrozenTrunkCache
from bertlab.callbacks.lr_restarts import LrRestarts
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.stochastic_average import StochasticAverage
from bertlab.callbacks.strategy import AtEpoch, AtStep, EachEpoch, Run, Strategy
from bertlab.tracking.checkpoint_io import AtomicCheckpointIO
from tests.callbacks.tiny import TinyTask, fit
from tests.doubles.stop_after import StopAfter, every_step


class Own(Strategy):
    """Half the rate in the second epoch."""

    when = EachEpoch()
    touches: ClassVar[Any] = {"lr"}

    def apply(self, run: Run) -> None:
        run.scale_lr(run.all_blocks, 0.5**run.stage)


class WhenIsAClass(Own):
    when: Any = EachEpoch


class WhenIsAWord(Own):
    when: Any = "epoch"


class TouchesIsAList(Own):
    touches: ClassVar[Any] = ["lr"]


class TrainsAName(Own):
    touches: ClassVar[Any] = {"trainable"}

    def apply(self, run: Run) -> None:
        run.train_only("head")  # type: ignore[arg-type]


class WeighsOtherClasses(Own):
    touches: ClassVar[Any] = {"class_weights"}

    def apply(self, run: Run) -> None:
        run.weight_classes(torch.ones(7))


class LosesTheLoss(Own):
    touches: ClassVar[Any] = {"loss"}

    def apply(self, run: Run) -> None:
        run.wrap_loss(lambda training: training.loss().backward())  # type: ignore[arg-type,return-value]


class NotesATensor(Own):
    def apply(self, run: Run) -> None:
        super().apply(run)
        run.note("sum", value=torch.ones(2))


class ForgetsTheStage(Own):
    def state_dict(self) -> dict[str, Any]:
        return {"mine": 1}


MISTAKES: dict[type[Strategy], tuple[type[Exception], str]] = {
    WhenIsAClass: (TypeError, r"^WhenIsAClass\.when .* is the class EachEpoch: write EachEpoch\(\)$"),
    WhenIsAWord: (TypeError, r"^WhenIsAWord\.when takes a trigger, such as .*, and is 'epoch'$"),
    TouchesIsAList: (TypeError, r"^TouchesIsAList\.touches takes a set of names, .* and is \['lr'\]$"),
    TrainsAName: (TypeError, r"^blocks are taken as objects, such as run\.head, .*, got 'head'$"),
    WeighsOtherClasses: (ValueError, r"^WeighsOtherClasses calls run\.weight_classes .* shape \(7,\)"),
    LosesTheLoss: (
        TypeError,
        r"^run\.wrap_loss takes a function .* and LosesTheLoss\.apply.* returned None$",
    ),
    NotesATensor: (TypeError, r"^NotesATensor: run\.note\('sum', …\) takes facts that JSON has .*tensor"),
    ForgetsTheStage: (
        TypeError,
        r"^ForgetsTheStage\.state_dict leaves out the stage, .*super\(\)\.state_dict",
    ),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_named_before_the_first_step_is_done(kind: type[Strategy], tmp_path: Path) -> None:
    error, message = MISTAKES[kind]
    task = TinyTask()
    before = {name: value.clone() for name, value in task.state_dict().items()}
    with pytest.raises(error, match=message):
        fit([kind()], tmp_path, task=task)
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: AtEpoch(NAN), "AtEpoch takes epochs of 0 or more, got nan"),
        (lambda: EachEpoch(INFINITE), "EachEpoch takes a number of epochs above 0, got inf"),
        (lambda: StagedUnfreezing(stage_epochs=INFINITE), r"stage_epochs takes a number above 0, got inf"),
        (lambda: StagedUnfreezing(stage_fraction=NAN), r"stage_fraction takes a number above 0, got nan"),
        (lambda: StagedUnfreezing(lr_decay=NAN), r"lr_decay takes a factor above 0, got nan"),
        (
            lambda: LrRestarts(cycle_fraction=NAN),
            r"LrRestarts\.cycle_fraction takes a number above 0, got nan",
        ),
        (
            lambda: LrRestarts(cycle_epochs=INFINITE),
            r"LrRestarts\.cycle_epochs takes a number above 0, got inf",
        ),
        (
            lambda: LrRestarts(cycle_steps=2, multiplier=NAN),
            r"LrRestarts\.multiplier takes 1 or more, got nan",
        ),
        (
            lambda: ExponentialAverage(start_epoch=NAN),
            r"ExponentialAverage\.start_epoch takes 0 or more, got nan",
        ),
        (lambda: StochasticAverage(start_fraction=NAN), r"start_fraction takes \[0, 1\], got nan"),
        (lambda: FrozenTrunkCache(minimum_epochs=NAN), r"minimum_epochs takes 0 epochs or more, got nan"),
        (
            lambda: CostWeightedLoss(start_fraction=NAN),
            r"CostWeightedLoss\.start_fraction: nan is out of range",
        ),
    ],
)
def test_no_number_is_no_length(make: Callable[[], object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()


class DoesNotTakeItBack(Own):
    when = AtStep(2)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


def test_a_stage_that_is_not_taken_back_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        fit(
            [DoesNotTakeItBack()],
            tmp_path,
            callbacks=(every_step(tmp_path), StopAfter(4)),
            enable_checkpointing=True,
        )
    with pytest.raises(
        TypeError, match=r"DoesNotTakeItBack\.load_state_dict has not taken back the stage \(1 "
    ):
        fit([DoesNotTakeItBack()], tmp_path, ckpt_path=tmp_path / "step=3.ckpt")
    fit([Own()], tmp_path, ckpt_path=tmp_path / "step=3.ckpt")  # one that is new there


class KeepsNumpy(Own):
    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"seen": {"best": np.float64(0.5)}}


def test_what_could_not_be_resumed_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(
        TypeError, match=r"^checkpoint\['callbacks'\]\['KeepsNumpy'\]\['seen'\]\['best'\] is a numpy\."
    ):
        fit(
            [KeepsNumpy()],
            tmp_path,
            callbacks=(every_step(tmp_path),),
            enable_checkpointing=True,
            plugins=[AtomicCheckpointIO()],
        )
    assert not list(tmp_path.glob("*.ckpt"))

"""Another fit goes on from what was trained; a resume in a new process makes the first weights as the first run did."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch import Trainer

from bertlab.callbacks.auto_freeze import AutoFreeze
from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.child_tuning import ChildTuning
from bertlab.callbacks.cost_weighted_loss import CostWeightedLoss
from bertlab.callbacks.exponential_average import ExponentialAverage
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.latest_average import LatestAverage
from bertlab.callbacks.lr_restarts import LrRestarts
from bertlab.callbacks.mixout import Mixout
from bertlab.callbacks.reinit_top_layers import ReinitTopLayers
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.step_seed import StepSeed
from bertlab.callbacks.strategy import Run, Strategy
from tests.bits import assert_equal
from tests.callbacks.averaging import Watch, weights
from tests.callbacks.contract.fragments import SaveAfter
from tests.callbacks.tiny import StepLog, Timeline, TinyData, TinyTask, fit


class Looks(Strategy):
    """Keeps what the weights of the encoder were when training began, each time that it is asked what it wants."""

    needs_starting_weights: ClassVar[bool] = True

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def apply(self, run: Run) -> None:
        named = run.trainer.lightning_module.named_parameters()
        starts = {name: run.starting_weight(parameter) for name, parameter in named}
        self.seen.append({name: None if start is None else start.clone() for name, start in starts.items()})


def go_on(trainer: Trainer, task: TinyTask, epochs: int) -> None:
    trainer.fit_loop.max_epochs = epochs
    trainer.fit(task, datamodule=TinyData())


def test_the_first_weights_are_made_once(tmp_path: Path) -> None:
    watch, looks = Watch(), Looks()
    task, trainer = fit([ReinitTopLayers(1), looks], tmp_path, callbacks=(watch,), epochs=2)
    trained = weights(task)
    go_on(trainer, task, 3)
    assert_equal(watch.trained[12], trained)
    # Those that training started from, with the highest layer drawn anew.
    first = {name: None if name.startswith("head") else watch.trained[0][name] for name in trained}
    assert not torch.equal(watch.trained[0]["layers.2.0.weight"], TinyTask().layers[2][0].weight)
    assert len(looks.seen) > 1
    for seen in looks.seen:
        assert_equal(seen, first)


def test_another_trainer_goes_on_too_and_another_task_is_made_anew(tmp_path: Path) -> None:
    strategy, watch = ReinitTopLayers(1), Watch()
    task, trainer = fit([strategy], tmp_path, callbacks=(watch,), epochs=1)
    drawn, trained = watch.trained[0], weights(task)
    again = Watch()
    fit([strategy], tmp_path, task=task, callbacks=(again,), epochs=1)
    assert_equal(again.trained[0], trained)
    other = TinyTask()
    go_on(trainer, other, 2)
    assert_equal(watch.trained[6], drawn)


def test_a_strategy_that_comes_later_makes_its_weights(tmp_path: Path) -> None:
    restarts, watch = LrRestarts(cycle_epochs=1), Watch()
    task, _ = fit([restarts], tmp_path, epochs=1)
    trained = weights(task)
    fit([restarts, ReinitTopLayers(1)], tmp_path, task=task, callbacks=(watch,), epochs=1)
    drawn = {name for name, value in watch.trained[0].items() if not torch.equal(value, trained[name])}
    assert drawn == {f"layers.2.{part}.{kind}" for part in (0, 1) for kind in ("weight", "bias")}


@pytest.mark.parametrize("hold", [Looks, lambda: Mixout(0.5)])
def test_a_new_process_starts_from_the_same(hold: Any, tmp_path: Path) -> None:
    """Where nothing but the checkpoint and the seed are known, the anchor is what it was."""
    whole, _ = fit(
        [ReinitTopLayers(1), hold()],
        tmp_path,
        callbacks=(SaveAfter(tmp_path, {7}),),
        enable_checkpointing=True,
    )
    holding = hold()
    resumed, _ = fit([ReinitTopLayers(1), holding], tmp_path, ckpt_path=tmp_path / "step=7.ckpt")
    assert_equal(weights(resumed), weights(whole))
    if isinstance(holding, Looks):
        expected = Watch()
        fit([ReinitTopLayers(1)], tmp_path, callbacks=(expected,), epochs=1)
        drawn = {k: None if k.startswith("head") else v for k, v in expected.trained[0].items()}
        assert_equal(holding.seen[-1], drawn)


class Counts(Strategy):
    """What it keeps is there when training is about to begin."""

    def prepare(self, trainer: Trainer, blocks: Blocks, horizon: Horizon) -> None:
        self.kept = horizon.total_steps

    def apply(self, run: Run) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"kept": self.kept}


@pytest.mark.parametrize(
    "made",
    [
        lambda: StagedUnfreezing(stage_epochs=0.5),
        lambda: StagedUnfreezing(plateau="val/loss", restore_best="val/loss"),
        lambda: CostWeightedLoss(start_step=9),
        lambda: ExponentialAverage(decay=0.5),
        lambda: LatestAverage(last=2, at="steps", every_steps=2),
        lambda: AutoFreeze(0.1, 90),
        lambda: ChildTuning("task_driven"),
    ],
)
def test_another_task_is_trained_as_by_a_new_strategy(made: Any, tmp_path: Path) -> None:
    """As in a loop over folds; nor does it matter whether a checkpoint was validated before."""

    def train(strategy: Strategy, validated: bool = False) -> tuple[Any, ...]:
        log, timeline, task = StepLog(), Timeline(), TinyTask(validation_losses=[1.0, 0.9, 0.95, 0.8])
        callbacks = [log, timeline, StepSeed(0), strategy]
        trainer = Trainer(
            **{
                "accelerator": "cpu",
                "devices": 1,
                "max_epochs": 3,
                "default_root_dir": tmp_path,
                "logger": False,
            },
            **{"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False},
            **{"num_sanity_val_steps": 0, "callbacks": callbacks},
        )
        if validated:
            first = weights(task)
            file = tmp_path / "step=15.ckpt"
            trainer.validate(task, datamodule=TinyData(), ckpt_path=file, verbose=False, weights_only=True)
            task.load_state_dict(first)
            task.validations = 0
        trainer.fit(task, datamodule=TinyData())
        return log.steps, timeline.events, weights(task)

    saved = SaveAfter(tmp_path, {15})
    task = TinyTask(validation_losses=[1.0, 0.9, 0.95, 0.8])
    strategy = made()
    fit([strategy], tmp_path, task=task, callbacks=(saved,), enable_checkpointing=True)
    expected = train(made())
    for found in (train(strategy), train(strategy, validated=True), train(made(), validated=True)):
        assert_equal(found[0], expected[0], "steps")
        assert found[1] == expected[1]
        assert_equal(found[2], expected[2], "weights")


def test_what_cannot_be_told_before_training_is_refused_in_another_one(tmp_path: Path) -> None:
    strategy = Counts()
    _, trainer = fit([strategy], tmp_path, epochs=1)
    go_on(trainer, TinyTask(), 2)  # this trainer goes on
    with pytest.raises(ValueError, match=r"Counts was in another training.* a strategy of its own"):
        fit([strategy], tmp_path, epochs=1)

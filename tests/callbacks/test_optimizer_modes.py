"""Schedule-free training against a plain loop of the package's own, and what checkpoints hold of it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from schedulefree import AdamWScheduleFree, SGDScheduleFree
from torch import nn

from bertlab.callbacks.adaptive_rank_adapters import AdaptiveRankAdapters
from bertlab.callbacks.exponential_average import ExponentialAverage
from bertlab.callbacks.lr_restarts import LrRestarts
from bertlab.callbacks.optimizer_modes import OptimizerModes
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.strategy import Strategy
from bertlab.interfaces import TRAINED_WEIGHTS
from bertlab.losses.reduction import weighted_mean
from bertlab.optimizers.parameter_groups import build_optimizer, parameter_groups
from bertlab.schedules.constant import Constant
from bertlab.schedules.linear import Linear
from tests.bits import assert_equal
from tests.callbacks.tiny import TinyTask, fit, step_data


class FreeTask(TinyTask):
    """The tiny task under a schedule-free optimizer; keeps the loss of each validation."""

    def __init__(self, make: Any = AdamWScheduleFree, schedule: Any = None) -> None:
        super().__init__(dropout=0.0)
        self.make, self.seen = make, []
        if schedule is not None:
            self.schedule = schedule

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = step_data(10_000)
        self.seen.append(float(nn.functional.cross_entropy(self(x), y)))
        self.log("val/loss", self.seen[-1])

    def configure_optimizers(self) -> Any:
        groups = parameter_groups(self.blocks(), weight_decay=0.1)
        return build_optimizer(lambda g: self.make(g, lr=3e-2), groups)


class Saves(Callback):
    """Saves whole and weights-only checkpoints before a step, and in the middle of a validation."""

    def __init__(self, root: Path, step: int) -> None:
        self.root, self.step = root, step

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.root / "train.ckpt")
            trainer.save_checkpoint(self.root / "weights.ckpt", weights_only=True)

    def on_validation_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.root / "validation.ckpt")
            trainer.save_checkpoint(self.root / "validation_weights.ckpt", weights_only=True)


def trained(root: Path, *, task: FreeTask | None = None, strategies: Any = (), **arguments: Any) -> FreeTask:
    callbacks = (*arguments.pop("callbacks", ()), OptimizerModes())
    found, _ = fit(
        list(strategies), root, task=task or FreeTask(), callbacks=callbacks, epochs=arguments.pop("epochs", 2),
        enable_checkpointing=False, **arguments,
    )  # fmt: skip
    assert isinstance(found, FreeTask)
    return found


def by_hand(steps: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Training and evaluation weights after so many steps, of a loop as the package's manual has it."""
    task = FreeTask()
    optimizer = task.configure_optimizers()
    optimizer.train()
    for step in range(steps):
        x, y = step_data(step)
        optimizer.zero_grad()
        losses = nn.functional.cross_entropy(task(x), y, reduction="none")
        weighted_mean(losses, torch.ones(len(y)), torch.ones(len(y)), 1).backward()
        optimizer.step()
    training = copy.deepcopy(task.state_dict())
    optimizer.eval()
    return training, copy.deepcopy(task.state_dict())


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def test_is_the_loop_of_the_package(tmp_path: Path) -> None:
    task = trained(tmp_path, callbacks=(Saves(tmp_path, 6),))
    training, evaluation = by_hand(6)
    saved = load(tmp_path / "train.ckpt")
    assert_equal(dict(saved["state_dict"]), dict(evaluation), "weights")
    assert not any(torch.equal(training[name], evaluation[name]) for name, _ in task.named_parameters())
    assert_equal(dict(saved[TRAINED_WEIGHTS]), dict(training), "training weights")
    x, y = step_data(10_000)
    twin = FreeTask()
    twin.load_state_dict(evaluation)
    assert task.seen[0] == float(nn.functional.cross_entropy(twin(x), y))
    assert_equal(dict(task.state_dict()), dict(by_hand(12)[1]), "weights after the fit")


def test_every_checkpoint_holds_the_evaluation_weights(tmp_path: Path) -> None:
    trained(tmp_path, callbacks=(Saves(tmp_path, 6),))
    whole = load(tmp_path / "train.ckpt")
    for name in ("weights", "validation", "validation_weights"):
        assert_equal(load(tmp_path / f"{name}.ckpt")["state_dict"], whole["state_dict"], name)
    within = load(tmp_path / "validation.ckpt")
    assert_equal(within[TRAINED_WEIGHTS], whole[TRAINED_WEIGHTS])
    assert_equal(within["optimizer_states"], whole["optimizer_states"])
    assert all(group["train_mode"] for group in whole["optimizer_states"][0]["param_groups"])


def test_neither_validations_nor_checkpoints_leave_a_trace(tmp_path: Path) -> None:
    quiet = trained(tmp_path, limit_val_batches=0)
    busy = trained(
        tmp_path, val_check_interval=1, callbacks=tuple(Saves(tmp_path, step) for step in range(4))
    )
    assert len(busy.seen) == 12
    assert_equal(dict(busy.state_dict()), dict(quiet.state_dict()))


@pytest.mark.parametrize("make", [AdamWScheduleFree, SGDScheduleFree])
@pytest.mark.parametrize("strategies", [(), (StagedUnfreezing(plan="chain_thaw", spread_fraction=0.8),)])
def test_resumes_to_the_bit_where_blocks_are_frozen_and_thawed(
    make: Any, strategies: Any, tmp_path: Path
) -> None:
    def again() -> Any:
        return copy.deepcopy(strategies)

    whole = trained(
        tmp_path, task=FreeTask(make), strategies=again(), epochs=3, callbacks=(Saves(tmp_path, 12),)
    )  # fmt: skip
    resumed = trained(
        tmp_path, task=FreeTask(make), strategies=again(), epochs=3, ckpt_path=tmp_path / "train.ckpt"
    )
    assert_equal(dict(resumed.state_dict()), dict(whole.state_dict()))
    assert resumed.seen[-1] == whole.seen[-1]


def test_optimizers_without_modes_are_left_alone(tmp_path: Path) -> None:
    task, _ = fit([], tmp_path, callbacks=(OptimizerModes(), Saves(tmp_path, 6)), epochs=2)
    alone, _ = fit([], tmp_path, epochs=2)
    assert_equal(dict(task.state_dict()), dict(alone.state_dict()))
    assert TRAINED_WEIGHTS not in load(tmp_path / "train.ckpt")


def test_schedules_beside_it_are_warned_about(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    trained(tmp_path, task=FreeTask(schedule=Constant(warmup_fraction=0.1)), max_steps=1)
    assert not [w for w in recwarn if "averages in place of" in str(w.message)]
    with pytest.warns(UserWarning, match=r"AdamWScheduleFree averages .* model.init_args.schedule is Linear"):
        trained(tmp_path, task=FreeTask(schedule=Linear()), max_steps=1)
    with pytest.warns(UserWarning, match=r"AdamWScheduleFree averages .* LrRestarts makes it fall"):
        trained(tmp_path, strategies=(LrRestarts(cycle_epochs=1),), max_steps=1)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (StagedUnfreezing(restore_best="val/loss"), r"StagedUnfreezing.restore_best .* AdamWScheduleFree"),
        (
            AdaptiveRankAdapters(initial_rank=4, target_rank=2),
            r"AdaptiveRankAdapters sets weights between the optimizer's steps, .* AdamWScheduleFree",
        ),
        (ExponentialAverage(), r"ExponentialAverage averages weights, and so does .* AdamWScheduleFree"),
    ],
)
def test_changing_weights_beside_it_is_refused(strategy: Strategy, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        trained(tmp_path, strategies=(strategy,))


class BreaksOff(Callback):
    """Ends training within its third validation."""

    validations = 0

    def on_validation_batch_start(self, *_: Any) -> None:
        self.validations += 1
        if self.validations == 3:
            raise RuntimeError("broken off")


def test_a_broken_validation_leaves_the_training_weights(tmp_path: Path) -> None:
    task = FreeTask()
    with pytest.raises(RuntimeError, match="broken off"):
        trained(tmp_path, task=task, val_check_interval=2, num_sanity_val_steps=0, callbacks=(BreaksOff(),))
    assert_equal(dict(task.state_dict()), dict(by_hand(6)[0]))

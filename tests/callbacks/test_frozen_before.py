"""What a user, a task or an encoder has frozen stays frozen; what strategies freeze is as it was when they are gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from bertlab.callbacks.auto_freeze import AutoFreeze
from bertlab.callbacks.bit_fit import BitFit
from bertlab.callbacks.exponential_average import ExponentialAverage
from bertlab.callbacks.l2_sp import L2Sp
from bertlab.callbacks.lr_restarts import LrRestarts
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.strategy import Strategy
from bertlab.callbacks.unfreezing_plans import Stage
from bertlab.encoders.adapters import settings_of
from tests.bits import assert_equal
from tests.callbacks.averaging import weights
from tests.callbacks.contract.fragments import SaveAfter
from tests.callbacks.real import fit_bert
from tests.callbacks.tiny import StepLog, TinyTask, fit
from tests.tasks.tiny import tiny_encoder, tiny_task

STRATEGIES: dict[str, Any] = {
    "an average": ExponentialAverage,
    "rates": lambda: LrRestarts(cycle_epochs=1),
    "all blocks": lambda: StagedUnfreezing(stages=[Stage(["head"], until_step=4), Stage(["all"])]),
    "biases": BitFit,
    "settled layers": lambda: AutoFreeze(0.1, 90),
}


def freeze(task: TinyTask) -> TinyTask:
    """The lowest layer as a whole, and half of the next."""
    task.layers[0].requires_grad_(False)
    task.layers[1][1].requires_grad_(False)
    return task


def flags(module: nn.Module) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in module.named_parameters()}


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_was_frozen_stays_frozen(name: str, tmp_path: Path) -> None:
    """Also when it is resumed, where the checkpoint does not tell, and the user's code does."""
    task, saver = freeze(TinyTask(layers=6)), SaveAfter(tmp_path, {7})
    before, trained = weights(task), flags(task)
    fit([STRATEGIES[name]()], tmp_path, task=task, callbacks=(saver,), enable_checkpointing=True)
    assert flags(task) == trained
    again = freeze(TinyTask(layers=6))
    fit([STRATEGIES[name]()], tmp_path, task=again, ckpt_path=tmp_path / "step=7.ckpt")
    assert_equal(weights(again), weights(task))
    for key, value in task.named_parameters():
        kept = not trained[key] or (name == "biases" and not key.endswith("bias") and key != "head.weight")
        assert torch.equal(value, before[key]) == kept, key


def test_modes_are_left_alone_without_a_wish_and_put_back_after_one(tmp_path: Path) -> None:
    class Modes(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: TinyTask, *args: Any) -> None:
            self.seen = [module.training for module in pl_module.modules()]

    for strategy, changed in ((ExponentialAverage(), False), (STRATEGIES["all blocks"](), True)):
        task, modes = TinyTask(), Modes()
        task.layers[1].eval()
        before = [module.training for module in task.modules()]
        fit([strategy], tmp_path, task=task, callbacks=(modes,))
        assert (modes.seen != before) == changed
        assert [module.training for module in task.modules()] == before


def test_a_users_own_thawing_is_left_alone(tmp_path: Path) -> None:
    """A callback that thaws in the middle, beside a strategy that changes stages and has no wish."""

    class Thaw(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: TinyTask) -> None:
            pl_module.embeddings.requires_grad_(trainer.current_epoch > 0)

    log = StepLog()
    fit([LrRestarts(cycle_steps=4)], tmp_path, callbacks=(Thaw(), log))
    assert [step["frozen"] for step in log.steps] == [["embeddings"]] * 6 + [[]] * 12


def test_a_stage_of_what_was_frozen_is_refused_or_said(tmp_path: Path) -> None:
    task = freeze(TinyTask())
    message = (
        r"StagedUnfreezing would train nothing in stage 1: all that it names \(layer.0\) was frozen before"
    )
    with pytest.raises(ValueError, match=message):
        fit(
            [StagedUnfreezing(stages=[Stage(["head"], until_step=4), Stage(["layer.0"])])],
            tmp_path,
            task=task,
        )
    assert task.losses == []
    with pytest.warns(
        UserWarning, match=r"StagedUnfreezing names layer.0 to be trained, which was frozen before"
    ):
        fit([STRATEGIES["all blocks"]()], tmp_path, task=freeze(TinyTask()))


def test_a_strategy_on_what_was_frozen_is_said(tmp_path: Path) -> None:
    task = TinyTask()
    for block in task.encoder_blocks():
        block.modules[0].requires_grad_(False)
    with pytest.warns(
        UserWarning, match="L2Sp would do nothing.*all that it works on is frozen from start to end"
    ):
        fit([L2Sp(beta=0.0)], tmp_path, task=task, epochs=1)


@pytest.mark.parametrize("name", ["an average", "all blocks"])
def test_an_encoder_with_adapters_of_its_own(name: str, tmp_path: Path) -> None:
    """As peft leaves it: the weights are frozen, the adapters are not."""

    def adapted() -> Any:
        encoder: Any = tiny_encoder()
        encoder.requires_grad_(False)
        encoder.add_adapters(
            settings_of(peft.LoraConfig(r=2, target_modules="all-linear")), torch.Generator().manual_seed(0)
        )
        assert {key for key, flag in flags(encoder).items() if flag} == {
            key for key in flags(encoder) if "lora_" in key
        }
        return encoder

    strategies: list[Strategy] = [STRATEGIES[name]()]
    task = tiny_task(encoder=adapted())
    before = flags(task.encoder)
    fit_bert(strategies, tmp_path, task=task, max_epochs=2)
    assert flags(task.encoder) == before
    start = adapted().state_dict()
    for key, value in task.encoder.named_parameters():
        assert torch.equal(value, start[key]) != before[key], key

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from bertlab.callbacks.layer_drop import LayerDrop
from bertlab.callbacks.mixout import Mixout
from bertlab.callbacks.r_drop import RDrop
from bertlab.callbacks.sharpness_aware import SharpnessAware
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.unfreezing_plans import Stage
from tests.callbacks.real import Gradients, fit_bert
from tests.callbacks.tiny import TinyTask, fit
from tests.tasks.tiny import tiny_task


class Calls(Callback):
    """Which layers were trained in each micro-batch (a layer may be called once without, to learn what it gives)."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        for number, layer in enumerate(pl_module.layers):

            def note(module: Any, args: Any, output: Any, number: int = number) -> None:
                if module.training and torch.is_grad_enabled():
                    self.batches[-1].append(number)

            layer[0].register_forward_hook(note)

    def on_train_batch_start(self, *args: Any) -> None:
        self.batches.append([])


def test_layers_are_left_out_with_probability_p(tmp_path: Path) -> None:
    calls = Calls()
    fit([LayerDrop(0.3)], tmp_path, callbacks=(calls,), task=TinyTask(layers=6), epochs=20)
    found = [sum(number in batch for batch in calls.batches) / len(calls.batches) for number in range(6)]
    assert found == pytest.approx([0.7] * 6, abs=0.15)  # 120 steps: a deviation of 0.04
    assert sum(found) / 6 == pytest.approx(0.7, abs=0.06)


def test_the_same_layers_in_all_micro_batches_of_a_step(tmp_path: Path) -> None:
    calls = Calls()
    fit([LayerDrop(0.5)], tmp_path, callbacks=(calls,), accumulate_grad_batches=3, epochs=6)
    steps = [calls.batches[start : start + 3] for start in range(0, 36, 3)]
    assert all(batches[0] == batches[1] == batches[2] for batches in steps)
    assert len({tuple(batches[0]) for batches in steps}) > 2


@pytest.mark.parametrize(("other", "same"), [(SharpnessAware(), True), (RDrop(), False)])
def test_passes_that_share_their_dropout_leave_out_the_same(other: Any, same: bool, tmp_path: Path) -> None:
    calls = Calls()
    fit([LayerDrop(0.5), other], tmp_path, callbacks=(calls,), task=TinyTask(layers=6))
    halves = [batch[: len(batch) // 2] * 2 == batch for batch in calls.batches]
    assert len(halves) == 18
    assert all(halves) == same


def test_validation_takes_all_layers(tmp_path: Path) -> None:
    task, _ = fit([LayerDrop(0.9)], tmp_path, epochs=1)
    assert all("forward" not in vars(layer) for layer in task.layers)
    x = torch.randn(5, 4)
    task.eval()
    expected = task.embeddings(x)
    for layer in task.layers:
        expected = layer(expected)
    assert torch.equal(task(x), task.head(expected))


@pytest.mark.parametrize("strategies", [[LayerDrop(0.6)], [LayerDrop(0.6), Mixout(0.5)]])
def test_a_gradient_of_zero_where_a_layer_is_left_out(strategies: list[Any], tmp_path: Path) -> None:
    gradients, calls = Gradients(), Calls()
    fit(strategies, tmp_path, callbacks=(gradients, calls), epochs=3)
    for step, batch in zip(gradients.steps, calls.batches, strict=True):
        for number in range(3):
            own = [value for name, value in step.items() if name.startswith(f"layers.{number}.")]
            assert all(value is not None for value in own)
            assert any(value.any() for value in own if value is not None) == (number in batch)


def test_frozen_layers_stay_in(tmp_path: Path) -> None:
    outputs: list[int] = []
    task = TinyTask()
    for number, layer in enumerate(task.layers):
        layer[0].register_forward_hook(lambda *_, number=number: outputs.append(number))
    stages = [Stage(["layer.2", "head"])]
    fit([LayerDrop(0.999), StagedUnfreezing(stages=stages)], tmp_path, task=task, limit_val_batches=0)
    assert outputs.count(0) == outputs.count(1) == 18
    assert outputs.count(2) <= 1


def test_it_saves_the_arithmetic(tmp_path: Path) -> None:
    calls = Calls()
    fit([LayerDrop(0.999)], tmp_path, callbacks=(calls,), epochs=2)
    assert sum(map(len, calls.batches)) == 0


@pytest.mark.parametrize("p", [-0.5, 1.0])
def test_a_probability_out_of_range(p: float) -> None:
    with pytest.raises(ValueError, match=rf"LayerDrop.p takes a probability in \[0, 1\), got {p}"):
        LayerDrop(p)


@pytest.mark.parametrize(
    ("strategies", "message"),
    [
        ([LayerDrop(0.0)], "LayerDrop would do nothing in this training: p is 0"),
        (
            [LayerDrop(), StagedUnfreezing(stages=[Stage(["embeddings", "head"])])],
            "LayerDrop would do nothing in this training: all that it works on is frozen from start to end",
        ),
    ],
)
def test_nothing_to_leave_out_is_said(strategies: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=message):
        fit(strategies, tmp_path, epochs=1)


def test_a_bert_learns(tmp_path: Path) -> None:
    task = fit_bert([LayerDrop(0.3)], tmp_path, task=tiny_task(pool="mean"), max_epochs=12)
    assert task.trainer.callback_metrics["val/accuracy"] > 0.9

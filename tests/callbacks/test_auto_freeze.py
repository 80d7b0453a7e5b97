from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from bertlab.callbacks.auto_freeze import AutoFreeze
from bertlab.callbacks.bit_fit import BitFit
from bertlab.callbacks.gradients_settle import GradientsSettle, settled_layers
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.layer_drop import LayerDrop
from tests.bits import assert_equal
from tests.callbacks.contract.fragments import SaveAfter
from tests.callbacks.real import fit_bert
from tests.callbacks.tiny import StepLog, Timeline, TinyData, TinyTask, fit


@pytest.mark.parametrize(
    ("now", "frozen", "percentile", "expected"),
    [
        ([4.1, 4.2, 6.0, 4.3], 0, 50, 2),  # changes 0.025, 0.05, 0.5, 0.075; the median is 0.0625
        ([4.1, 6.0, 4.1, 4.3], 0, 50, 1),  # a settled layer above one that is not stays
        ([9.0, 4.0, 4.0, 4.0], 0, 50, 0),
        ([4.1, 4.2, 6.0, 4.3], 0, 0, 0),
        ([4.1, 4.2, 6.0, 4.3], 0, 100, 2),
        ([0.0, 4.2, 6.0, 4.3], 1, 50, 2),  # of those that are trained: 0.05, 0.5, 0.075
        ([0.0, 0.0, 0.0, 5.0], 3, 50, 3),  # one is always left
    ],
)
def test_settled_layers_at_hand_values(
    now: list[float], frozen: int, percentile: float, expected: int
) -> None:
    assert settled_layers([4.0] * 4, now, frozen, percentile) == expected


def test_settled_layers_as_the_authors_find_them() -> None:
    """The first layer whose ratio is not below numpy's percentile of those that are still trained."""
    generator = np.random.default_rng(0)
    for _ in range(200):
        before, now = generator.uniform(1, 2, (2, 12))
        frozen, percentile = int(generator.integers(0, 11)), float(generator.uniform(0, 100))
        ratios = np.abs(before - now) / before
        limit = np.percentile(ratios[frozen:], percentile)
        expected = next(layer for layer in range(frozen, 12) if ratios[layer] >= limit)
        assert settled_layers(before.tolist(), now.tolist(), frozen, percentile) == expected


def test_a_layer_without_a_gradient_before_has_not_settled() -> None:
    assert settled_layers([0.0, 4.0, 4.0], [0.0, 4.0, 5.0], 0, 90) == 0
    assert settled_layers([0.0, 0.0], [1.0, 1.0], 0, 90) == 0


def test_intervals() -> None:
    trigger = GradientsSettle(0.1, 50)
    ends = [step for step in range(1, 26) if trigger.interval_ends(step, Horizon(25, 5))]
    assert ends == [3, 5, 8, 10, 13, 15, 18, 20, 23, 25]
    assert [step for step in range(1, 7) if trigger.interval_ends(step, Horizon(6, 2))] == [1, 2, 3, 4, 5, 6]


def test_a_norm_that_is_not_finite_is_no_measure() -> None:
    trigger, horizon = GradientsSettle(0.1, 90), Horizon(100, 10)
    for step, norms in ((10, [1.0, 1.0]), (20, [math.nan, 1.0]), (30, [1.0, 2.0])):
        trigger.compare(norms, step)
        assert trigger.starts(horizon) == []
    trigger.compare([1.0, 4.0], 40)
    assert trigger.starts(horizon) == [40]
    assert trigger.settled == [1]


class Norms(Callback):
    """The norm of the summed gradients of each layer over intervals, added up apart from the strategy."""

    def __init__(self, steps: int) -> None:
        self.every, self.sums, self.norms = steps, {}, list[list[float]]()

    def on_before_optimizer_step(self, trainer: Any, pl_module: TinyTask, optimizer: Any) -> None:
        for number, layer in enumerate(pl_module.layers):
            for index, parameter in enumerate(layer.parameters()):
                if parameter.grad is not None:
                    key = (number, index)
                    self.sums[key] = self.sums.get(key, 0) + parameter.grad.clone()
        if (trainer.global_step + 1) % self.every == 0:
            layers = range(len(pl_module.layers))
            squares = [
                sum(float(s.square().sum()) for k, s in self.sums.items() if k[0] == n) for n in layers
            ]
            self.norms.append([math.sqrt(square) for square in squares])
            self.sums = {}


def test_layers_freeze_when_their_gradients_have_settled(tmp_path: Path) -> None:
    log, timeline, norms = StepLog(), Timeline(), Norms(3)
    task = TinyTask(layers=6, pooler=True, dropout=0.0)
    strategy = AutoFreeze(interval_fraction=1 / 12, percentile=60)
    fit(
        [strategy], tmp_path, task=task, callbacks=(log, timeline, norms), epochs=6
    )  # twelve intervals of three
    frozen, counts = 0, [0] * 6
    for interval in range(1, 12):
        frozen = settled_layers(norms.norms[interval - 1], norms.norms[interval], frozen, 60)
        counts += [frozen] * 3
    assert len(set(counts)) > 2
    for step, count in zip(log.steps, counts, strict=False):
        expected = ["embeddings", *(f"layer.{n}" for n in range(count))] if count else []
        assert step["frozen"] == expected
        assert not set(step["grads"]) & set(expected)
        assert step["train_mode"] == step["trained"]
    stages = [(at, facts["stage"]) for at, _, what, facts in timeline.events if what == "stage"]
    assert len(stages) == len(set(counts))


def test_killed_within_an_interval(tmp_path: Path) -> None:
    saver = SaveAfter(tmp_path, set(range(1, 18, 2)))

    def run(**arguments: Any) -> tuple[TinyTask, list[Any]]:
        log = StepLog()
        callbacks = (log, *arguments.pop("callbacks", ()))
        task = TinyTask(layers=6)
        fit(
            [AutoFreeze(0.2, 70)],
            tmp_path,
            task=task,
            callbacks=callbacks,
            enable_checkpointing=True,
            **arguments,
        )
        return task, log.steps

    whole, steps = run(callbacks=(saver,))
    assert steps[-1]["frozen"]
    for step in range(1, 18, 2):
        resumed, rest = run(ckpt_path=tmp_path / f"step={step}.ckpt")
        assert_equal(rest, steps[step:], f"after {step}")
        assert_equal(dict(resumed.state_dict()), dict(whole.state_dict()), f"after {step}")


@pytest.mark.parametrize("other", [BitFit(), LayerDrop(0.5)])
def test_with_strategies_that_take_gradients_away(other: Any, tmp_path: Path) -> None:
    log = StepLog()
    fit([AutoFreeze(0.1, 80), other], tmp_path, task=TinyTask(layers=6), callbacks=(log,), epochs=4)
    assert log.steps[-1]["frozen"]


def test_layers_that_a_user_has_frozen_are_passed_over(tmp_path: Path) -> None:
    log, task, strategy = StepLog(), TinyTask(layers=6), AutoFreeze(0.1, 80)
    for index in (0, 2):
        task.layers[index].requires_grad_(False)
    fit([strategy], tmp_path, task=task, callbacks=(log,), epochs=4)
    assert log.steps[0]["frozen"] == ["layer.0", "layer.2"]
    assert strategy.trigger.settled[-1] >= 4  # type: ignore[attr-defined]
    assert {"embeddings", "layer.1", "layer.3"} <= set(log.steps[-1]["frozen"])


def test_a_bert_freezes_and_learns_on(tmp_path: Path) -> None:
    strategy = AutoFreeze(0.1, 90)
    task = fit_bert([strategy], tmp_path, max_epochs=4)
    assert strategy.trigger.settled == [1]  # type: ignore[attr-defined]
    assert all(parameter.requires_grad for parameter in task.parameters())  # no trace is left


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"interval_fraction": 0.0}, r"AutoFreeze.interval_fraction takes a number in \(0, 0.5\), got 0.0"),
        ({"interval_fraction": 0.5}, r"AutoFreeze.interval_fraction takes a number in \(0, 0.5\), got 0.5"),
        ({"percentile": 101.0}, r"AutoFreeze.percentile takes a number in \[0, 100\], got 101.0"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AutoFreeze(**arguments)


def test_gradients_in_bfloat16_are_added_up_in_float32(tmp_path: Path) -> None:
    """In bfloat16 the sum of 290 ones is 256."""

    class Constant(TinyTask):
        def training_loss(self, batch: Any) -> Any:
            return torch.stack([parameter.sum() for parameter in self.parameters()]).sum()

    class See(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 290:
                sums.extend(strategy.sums.values())

    sums: list[torch.Tensor] = []
    strategy, settings = AutoFreeze(0.49, 0), {"precision": "bf16-true", "limit_val_batches": 0}
    fit([strategy], tmp_path, task=Constant(), data=TinyData(600), epochs=1, callbacks=(See(),), **settings)
    assert len(sums) == 12
    assert all(torch.equal(value, torch.full(value.shape, 290.0)) for value in sums)


def test_a_run_too_short_is_said(tmp_path: Path) -> None:
    with pytest.warns(
        UserWarning, match="AutoFreeze would do nothing.*two intervals of 1 steps have to be over"
    ):
        fit([AutoFreeze()], tmp_path, epochs=1, max_steps=2)
    with pytest.warns(UserWarning, match="AutoFreeze would do nothing.*percentile is 0"):
        fit([AutoFreeze(percentile=0.0)], tmp_path, epochs=1)
    with pytest.warns(UserWarning, match="AutoFreeze would do nothing.*the encoder has one layer"):
        fit([AutoFreeze()], tmp_path, epochs=4, task=TinyTask(layers=1))

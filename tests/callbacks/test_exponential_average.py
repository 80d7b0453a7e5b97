from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bertlab.callbacks.exponential_average import ExponentialAverage
from tests.callbacks.averaging import Watch, plain, weights
from tests.callbacks.tiny import TinyTask, fit


@pytest.mark.parametrize("start", [None, 5])
def test_equals_the_averaged_model_of_torch(start: int | None, tmp_path: Path) -> None:
    _, alone = plain(tmp_path)
    reference, model = None, TinyTask()
    expected: dict[int, dict[str, torch.Tensor]] = {}
    for step in range(start or 1, 19):
        model.load_state_dict(alone.trained[step])
        if reference is None:
            reference = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        reference.update_parameters(model)
        expected[step] = weights(reference.module)
    watch = Watch()
    fit(
        [ExponentialAverage(decay=0.9, warm_up=False, start_step=start)],
        tmp_path,
        callbacks=(watch,),
        val_check_interval=1,
    )
    assert sorted(watch.validated) == list(range(1, 19))
    for step, values in expected.items():
        for name, value in values.items():
            torch.testing.assert_close(watch.validated[step][name], value, rtol=1e-6, atol=1e-7)


def test_seldom_and_with_a_warm_up(tmp_path: Path) -> None:
    """By hand: taken after steps 3, 6, 9, 12; the decay of three steps is d cubed, d = min(0.6, (1+t)/(10+t))."""
    _, alone = plain(tmp_path, epochs=2)
    strategy = ExponentialAverage(decay=0.6, every_steps=3)
    task, _ = fit([strategy], tmp_path, epochs=2)
    taken = [alone.trained[step]["head.weight"].double() for step in (3, 6, 9, 12)]
    average = taken[0]
    for decay, weight in zip((4 / 13, 7 / 16, 10 / 19), taken[1:], strict=True):
        average = decay**3 * average + (1 - decay**3) * weight
    assert strategy.taken == 4
    torch.testing.assert_close(task.head.weight.detach().double(), average, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        ({}, 1),
        ({"start_fraction": 0.5}, 9),
        ({"start_epoch": 1.5}, 9),
        ({"start_step": 4}, 4),
        ({"every_steps": 5}, 5),
        ({"every_steps": 5, "start_step": 4}, 4),
    ],
)
def test_where_it_begins(arguments: dict[str, Any], first: int, tmp_path: Path) -> None:
    watch, strategy = Watch(), ExponentialAverage(decay=0.8, **arguments)
    fit([strategy], tmp_path, callbacks=(watch,), val_check_interval=1)
    every = arguments.get("every_steps", 1)
    assert strategy.taken == 1 + (18 - first) // every
    # The first weights are the average; the next ones taken move it.
    for name, value in watch.trained[first].items():
        assert torch.equal(watch.validated[first][name], value)
    later = watch.validated[first + every]["head.weight"]
    assert not torch.equal(later, watch.trained[first + every]["head.weight"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decay": 1.0}, r"ExponentialAverage.decay takes a number in \[0, 1\), got 1.0"),
        ({"decay": -0.1}, r"ExponentialAverage.decay takes .* got -0.1"),
        ({"every_steps": 0}, r"ExponentialAverage.every_steps takes 1 or more, got 0"),
        ({"start_step": -1}, r"ExponentialAverage.start_step takes 0 or more, got -1"),
        ({"start_fraction": 1.5}, r"ExponentialAverage.start_fraction takes \[0, 1\], got 1.5"),
        ({"start_step": 3, "start_epoch": 1}, r"ExponentialAverage: start_epoch and start_step clash"),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExponentialAverage(**arguments)

"""A strategy leaves nothing behind but the weights, and another fit goes on from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bertlab.callbacks.strategy import Run, Strategy
from bertlab.interfaces import Course
from tests.bits import assert_equal
from tests.callbacks.contract.fragments import FRAGMENTS, NAMES, strategy, with_work
from tests.callbacks.contract.pairs import Pair, composing, label, spread
from tests.callbacks.contract.traces import Pause, frozen_by_user, own_task, traces, traces_of_optimizer
from tests.callbacks.tiny import TinyData, fit


def leaves_no_trace(make: Callable[[], list[Strategy]], root: Path) -> None:
    """A fit that is stopped and gone on with, then one without strategies, as that of a model of the same weights."""
    strategies, pause, data = make(), Pause(), TinyData()
    trained = own_task(strategies)
    frozen = frozen_by_user(trained)
    before = frozen.detach().clone()
    _, trainer = fit(with_work(strategies), root, task=trained, data=data, callbacks=(pause,), epochs=3)
    trainer.fit(trained, datamodule=data)
    assert trainer.global_step == 18
    assert_equal(pause.begun[1], pause.ended[0], "the second fit goes on from the trained weights")
    assert torch.equal(frozen, before), "what the user has frozen stays, bit for bit"

    fresh, fresh_data = own_task(strategies), TinyData()
    for one in make():
        one.extend(fresh, torch.Generator())  # adapters belong to the weights
    fresh.load_state_dict(trained.state_dict())
    _, after = fit([], root, task=trained, data=data, epochs=1)
    _, expected = fit([], root, task=fresh, data=fresh_data, epochs=1)
    for made in (trainer, after):
        assert_equal(
            traces_of_optimizer(made.optimizers[0]), traces_of_optimizer(expected.optimizers[0]), "optimizer"
        )
    assert_equal(traces(trained, data), traces(fresh, fresh_data), "traces")
    assert_equal(dict(trained.state_dict()), dict(fresh.state_dict()), "weights")
    assert_equal(after.optimizers[0].state_dict(), expected.optimizers[0].state_dict(), "optimizer state")


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=NAMES)
def test_a_strategy_leaves_no_trace(fragment: Path, tmp_path: Path) -> None:
    leaves_no_trace(lambda: [strategy(fragment)], tmp_path)


@pytest.mark.parametrize("pair", spread(composing()), ids=label)
def test_two_strategies_leave_no_trace(pair: Pair, tmp_path: Path) -> None:
    leaves_no_trace(lambda: [strategy(fragment) for fragment in pair], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("pair", composing(), ids=label)
def test_any_two_strategies_leave_no_trace(pair: Pair, tmp_path: Path) -> None:
    leaves_no_trace(lambda: [strategy(fragment) for fragment in pair], tmp_path)


class Leaves(Strategy):
    """Does something to the task, the optimizer or the data when training ends, and does not undo it."""

    def __init__(self, fault: Callable[[Run], Any]) -> None:
        self.fault = fault

    def apply(self, run: Run) -> None: ...

    def on_stage_end(self, run: Run) -> None:
        self.fault(run)


def task_of(run: Run) -> Any:
    return run.trainer.lightning_module


def data_of(run: Run) -> Any:
    return getattr(run.trainer, "datamodule", None)


def move(run: Run) -> None:
    with torch.no_grad():
        frozen_by_user(task_of(run)).add_(1e-3)


def hook(*_: Any) -> None: ...


FAULTS: dict[str, tuple[Callable[[Run], Any], str]] = {
    "a mode": (lambda run: task_of(run).layers[0].eval(), "training"),
    "a thawed parameter": (lambda run: frozen_by_user(task_of(run)).requires_grad_(True), "bit for bit"),
    "a frozen parameter": (lambda run: task_of(run).head.requires_grad_(False), r"parameters.*head\.weight"),
    "a moved parameter": (move, "goes on from the trained weights"),
    "a hook": (lambda run: task_of(run).layers[0].register_forward_hook(hook), "_forward_hooks"),
    "an attribute": (lambda run: setattr(task_of(run), "left", 1), "traces.*modules"),
    "a hook of the optimizer": (
        lambda run: run.trainer.optimizers[0].register_step_pre_hook(hook),
        "_optimizer_step_pre_hooks",
    ),
    "a key of the optimizer": (
        lambda run: run.trainer.optimizers[0].param_groups[0].update(left=1),
        "groups",
    ),
    "a course": (lambda run: data_of(run).follow(Course(length=lambda _: 32)), "course"),
    "a way of drawing": (lambda run: data_of(run).draw_poisson(None), "poisson"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_trace_is_seen(name: str, tmp_path: Path) -> None:
    fault, message = FAULTS[name]
    with pytest.raises(AssertionError, match=message):
        leaves_no_trace(lambda: [Leaves(fault)], tmp_path)

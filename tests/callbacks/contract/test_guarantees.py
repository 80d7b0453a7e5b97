"""What watches the guarantees sees each of them broken."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.strategy import Run, Strategy
from bertlab.callbacks.unfreezing_plans import Stage
from tests.callbacks.contract.test_combinations import train
from tests.callbacks.tiny import TinyData, fit
from tests.doubles.same_on_both_ranks import SameOnBothRanks


class Breaks(Strategy):
    """Does what no strategy may, with the model in its hands, or writes down a wish behind the back of `run`.

    Args:
        fault: is done before each optimizer step.
        late: after each of them instead.
    """

    touches: ClassVar[set[str]] = {"gradients", "lr"}

    def __init__(self, fault: Callable[[Run], None], late: bool) -> None:
        self.fault, self.late = fault, late

    def apply(self, run: Run) -> None:
        if not self.late:
            run.edit_gradients(lambda: self.fault(run))

    def after_step(self, run: Run) -> None:
        if self.late:
            self.fault(run)


def move(run: Run, trained: bool) -> None:
    block = run.head if trained else run.blocks[0]
    with torch.no_grad():
        next(block.parameters()).add_(1e-3)


def frozen_gradient(run: Run) -> None:
    parameter = next(run.blocks[0].parameters())
    parameter.grad = torch.zeros_like(parameter)


def thaw(run: Run) -> None:
    run.blocks[0].train()
    for parameter in run.blocks[0].parameters():
        parameter.requires_grad_(True)


def task_of(run: Run) -> Any:
    return run.trainer.lightning_module


def head_group(run: Run) -> dict[str, Any]:
    return run.trainer.optimizers[0].param_groups[-1]


RATE = "a rate changes without an event: .* head"

FAULTS: dict[str, tuple[Callable[[Run], None], bool, str]] = {
    "a weight moves before the step": (lambda run: move(run, True), False, "passes leave the model"),
    "a frozen weight moves": (lambda run: move(run, False), True, "what is frozen stays"),
    "a frozen weight has a gradient": (frozen_gradient, False, "what is frozen has none"),
    "a trained block is in evaluation mode": (lambda run: run.head.train(False), False, "head"),
    "a parameter leaves its group": (
        lambda run: run.trainer.optimizers[0].param_groups[-1]["params"].clear(),
        False,
        "no group is added",
    ),
    "a block thaws and nothing tells": (thaw, True, "what is trained changes without an event"),
    "classes weigh and nothing tells": (
        lambda run: task_of(run).set_class_weights(torch.ones(3)),
        True,
        "classes weigh without an event",
    ),
    "a rate changes and nothing tells": (lambda run: head_group(run).update(lr=1e-3), True, RATE),
    "a rate changes for one step and nothing tells": (
        lambda run: head_group(run).update(lr=1e-3),
        False,
        RATE,
    ),
    "a factor comes late and nothing tells": (
        lambda run: run.wishes.factors.append(([run.head], 0.5)),
        True,
        RATE,
    ),
    "a curve comes late and nothing tells": (
        lambda run: run.wishes.factors.append(([run.head], lambda _: 0.5)),
        True,
        RATE,
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_guarantee_is_seen(name: str, tmp_path: Path) -> None:
    fault, late, message = FAULTS[name]
    staged = StagedUnfreezing(stages=[Stage(["layer.5-head"])])
    train([staged], tmp_path)
    with pytest.raises(AssertionError, match=message):
        train([staged, Breaks(fault, late)], tmp_path)


def test_ranks_that_differ_are_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broadcast(weights: torch.Tensor, src: int, of_rank_0: float) -> None:
        weights[-1] += of_rank_0

    monkeypatch.setattr(torch.distributed, "broadcast", partial(broadcast, of_rank_0=0.0))
    fit([], tmp_path, callbacks=(SameOnBothRanks(),), epochs=1)
    monkeypatch.setattr(torch.distributed, "broadcast", partial(broadcast, of_rank_0=1e-6))
    with pytest.raises(AssertionError, match=r"ranks differ in head\.bias at step 0"):
        fit([], tmp_path, callbacks=(SameOnBothRanks(),), epochs=1)


def test_ranks_that_differ_after_the_last_step_are_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[int] = []

    def broadcast(weights: torch.Tensor, src: int) -> None:
        seen.append(src)
        weights[-1] += 1e-6 * (len(seen) > TinyData().batches)

    monkeypatch.setattr(torch.distributed, "broadcast", broadcast)
    with pytest.raises(AssertionError, match=r"ranks differ in head\.bias at step 6"):
        fit([], tmp_path, callbacks=(SameOnBothRanks(),), epochs=1)


class Twice(Strategy):
    """Asks for the rate of the head twice, for which factors are multiplied."""

    touches: ClassVar[set[str]] = {"lr"}

    def apply(self, run: Run) -> None:
        run.scale_lr(run.all_blocks, 0.5)
        run.scale_lr(run.head, 0.5)


def test_the_factor_of_a_block_that_is_named_twice_is_told(tmp_path: Path) -> None:
    trained = train([Twice()], tmp_path)
    (told,) = (facts["factors"] for *_, what, facts in trained.events if what == "lr")
    assert (told["head"], told["pooler"]) == (0.25, 0.5)

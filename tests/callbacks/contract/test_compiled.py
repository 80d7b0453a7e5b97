"""Every strategy trains a model that is compiled by `torch.compile` as it trains the model itself.

The backend is dynamo's capture alone ("eager"): what a strategy can break is the capture, with weights put in the place
of others, hooks, parts that freeze and thaw, modes that change, and layers that are left out. It runs what was captured
by torch's own operations, so weights are equal to the bit, dropout included, and no C++ compiler is needed.

Each set of frozen blocks is a graph of its own: chain-thaw of eight blocks has more than torch's `recompile_limit` of 8
allows, beyond which it warns and runs the model as it is, with the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.fx import GraphModule

from bertlab.callbacks.strategy import Strategy
from tests.bits import assert_equal
from tests.callbacks.contract.fragments import FRAGMENTS, NAMES, run, strategy, task
from tests.callbacks.contract.pairs import Pair, composing, label, spread
from tests.callbacks.tiny import TinyTasks


class Counted:
    """The backend "eager", which counts the runs of graphs: a fall back to Python would make none."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, graph: GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        def compiled(*args: Any) -> Any:
            self.runs += 1
            return graph.forward(*args)

        return compiled


def learns_the_same(fragments: Sequence[Path], root: Path) -> None:
    def made() -> list[Strategy]:
        return [strategy(fragment) for fragment in fragments]

    torch.compiler.reset()
    backend, compiled = Counted(), task(made())
    # What users of Lightning compile: the model's forward; hooks of strategies on it stay outside.
    for model in compiled.tasks.values() if isinstance(compiled, TinyTasks) else [compiled]:
        vars(model)["forward"] = torch.compile(model.forward, backend=backend)
    plain = run(made(), root)
    with torch._dynamo.config.patch(recompile_limit=64, fail_on_recompile_limit_hit=True):
        found = run(made(), root, task=compiled)
    assert_equal(found[1], plain[1], "steps")
    assert_equal(dict(found[0].state_dict()), dict(plain[0].state_dict()), "weights")
    assert_equal(found[2], plain[2], "events")
    assert backend.runs >= 24  # each step


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=NAMES)
def test_a_compiled_model_learns_the_same(fragment: Path, tmp_path: Path) -> None:
    learns_the_same([fragment], tmp_path)


@pytest.mark.parametrize("pair", spread(composing()), ids=label)
def test_a_compiled_model_learns_the_same_by_two_strategies(pair: Pair, tmp_path: Path) -> None:
    learns_the_same(pair, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("pair", composing(), ids=label)
def test_a_compiled_model_learns_the_same_by_any_two_strategies(pair: Pair, tmp_path: Path) -> None:
    learns_the_same(pair, tmp_path)

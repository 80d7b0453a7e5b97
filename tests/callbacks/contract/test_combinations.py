"""Three to five strategies at once, with any arguments: what `run` guarantees holds, or they refuse by name."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lightning.pytorch import Callback

from bertlab.callbacks.strategy import Strategy
from tests.bits import assert_equal
from tests.callbacks.contract.combinations import (
    Part,
    clashes,
    class_of,
    combinations,
    made,
    table,
    without_dropout,
)
from tests.callbacks.contract.fragments import FRAGMENTS, REFUSED, SaveAfter
from tests.callbacks.contract.grounds import Ground, Texts, Vectors
from tests.callbacks.contract.guarantees import Guarantees
from tests.callbacks.tiny import StepLog, Timeline
from tests.callbacks.tiny_bert import write_bert
from tests.doubles.same_on_both_ranks import SameOnBothRanks
from tests.ranks import on_two_ranks

#: The same examples each time; others are searched for by `make test-slow`.
BRIEF = settings(max_examples=24, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
LONG = settings(BRIEF, max_examples=400, derandomize=False)

VECTORS = Vectors()


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Texts]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTLAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Texts(write_bert(tmp_path_factory.mktemp("bert")))


class Marked(SaveAfter):
    """Remembers what the timeline held when the checkpoint was saved."""

    def __init__(self, root: Path, step: int, timeline: Timeline) -> None:
        super().__init__(root, {step})
        self.timeline, self.known = timeline, 0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        if trainer.global_step in self.steps and batch_idx % trainer.accumulate_grad_batches == 0:
            self.known = len(self.timeline.events)


class Trained(NamedTuple):
    """What a training left: weights, what held in each step, events (after the checkpoint), optimizer state."""

    weights: dict[str, torch.Tensor]
    steps: list[Any]
    events: list[Any]
    optimizer: Any


def train(
    strategies: list[Strategy],
    root: Path,
    *,
    ground: Ground = VECTORS,
    like_a_user: bool = False,
    accumulate: int = 1,
    save_at: int | None = None,
    dropout: float = 0.1,
    before: tuple[Callback, ...] = (),
    **arguments: Any,
) -> Trained:
    """Train, and fail where a guarantee is broken."""
    log, timeline = StepLog(), Timeline()
    guarantees, marked = Guarantees(timeline), Marked(root, -1 if save_at is None else save_at, timeline)
    trained, trainer = ground.train(
        strategies,
        root,
        like_a_user=like_a_user,
        dropout=dropout,
        before=(log, timeline, marked, *before),
        behind=(guarantees,),  # it sees what the strategies leave
        accumulate_grad_batches=accumulate,
        enable_checkpointing=True,
        **arguments,
    )
    assert guarantees.steps
    weights = {name: value.clone() for name, value in trained.state_dict().items()}
    return Trained(weights, log.steps, timeline.events[marked.known :], trainer.optimizers[0].state_dict())


def hold(ground: Ground, parts: list[Part], like_a_user: bool, accumulate: int, killed_at: int) -> None:
    """Train, kill after some steps and resume in another order; or be refused."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        common: dict[str, Any] = {"ground": ground, "like_a_user": like_a_user}
        if clashes(parts):
            with pytest.raises((ValueError, RuntimeError), match=REFUSED) as refused:
                train([made(part) for part in parts], root, **common)
            named = sum(class_of(fragment).__name__ in str(refused.value) for fragment, _ in parts)
            assert named >= 2 or len({class_of(fragment) for fragment, _ in parts}) < len(parts)
            return
        common["accumulate"] = accumulate
        try:
            whole = train([made(part) for part in parts], root, save_at=killed_at, **common)
        except ValueError as refused:
            # By their arguments: a stage trains none of the parameters that another strategy names.
            found = re.match(r"(\w+) and (\w+) have nothing in common in stage \d+: ", str(refused))
            if found is None or not set(found.groups()) <= {
                class_of(fragment).__name__ for fragment, _ in parts
            }:
                raise
            return
        file = root / f"step={killed_at}.ckpt"
        again = train([made(part) for part in parts[::-1]], root, ckpt_path=file, **common)
        assert_equal(again.steps, whole.steps[killed_at:], "steps")
        assert_equal(again.weights, whole.weights, "weights")
        assert_equal(again.optimizer, whole.optimizer, "optimizer")
        # Within a step events are in the order of the strategies in the list.
        assert sorted(map(str, again.events)) == sorted(map(str, whole.events))


def drawn(ground: type[Ground]) -> Any:
    """What is drawn for a test."""
    return given(
        parts=combinations(ground),
        like_a_user=st.booleans(),
        accumulate=st.integers(1, 2),
        killed_at=st.integers(1, ground.steps * ground.epochs - 1),
    )


on_vectors, on_texts = drawn(Vectors), drawn(Texts)


@BRIEF
@on_vectors
def test_any_combination(parts: list[Part], like_a_user: bool, accumulate: int, killed_at: int) -> None:
    hold(VECTORS, parts, like_a_user, accumulate, killed_at)


@settings(BRIEF, max_examples=3)
@on_texts
def test_any_combination_on_a_bert(
    texts: Texts, parts: list[Part], like_a_user: bool, accumulate: int, killed_at: int
) -> None:
    hold(texts, parts, like_a_user, accumulate, killed_at)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@LONG
@on_vectors
def test_many_combinations(parts: list[Part], like_a_user: bool, accumulate: int, killed_at: int) -> None:
    hold(VECTORS, parts, like_a_user, accumulate, killed_at)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@LONG
@on_texts
def test_many_combinations_on_a_bert(
    texts: Texts, parts: list[Part], like_a_user: bool, accumulate: int, killed_at: int
) -> None:
    hold(texts, parts, like_a_user, accumulate, killed_at)


@pytest.mark.parametrize("ground", [Vectors, Texts])
def test_every_strategy_is_drawn_but_those_that_are_left_out(ground: type[Ground]) -> None:
    every = {class_of(fragment).__name__ for fragment in FRAGMENTS}
    assert ground.left_out.keys() <= every
    assert set(table(ground)) == every - ground.left_out.keys()


def on_a_rank(chosen: list[tuple[list[Part], bool]], root: Path) -> list[dict[str, torch.Tensor]]:
    ranks: dict[str, Any] = {"devices": 2, "strategy": "ddp", "use_distributed_sampler": False}
    found: list[dict[str, torch.Tensor]] = []
    for parts, like_a_user in chosen:
        strategies = [made(part) for part in parts]
        again: dict[str, Any] = {"like_a_user": like_a_user, "dropout": 0.0, "before": (SameOnBothRanks(),)}
        found.append(train(strategies, root, **again, **ranks).weights)
    return found


def test_two_ranks(tmp_path: Path) -> None:
    """A few combinations in one start of two processes."""
    chosen: list[tuple[list[Part], bool]] = []

    @settings(BRIEF, max_examples=12, database=None, phases=[Phase.generate])
    @given(parts=combinations(Vectors), like_a_user=st.booleans())
    def choose(parts: list[Part], like_a_user: bool) -> None:
        if not clashes(parts):
            chosen.append(([without_dropout(part) for part in parts], like_a_user))

    choose()
    chosen = chosen[-5:]
    ranks = on_two_ranks(on_a_rank, tmp_path, chosen, tmp_path)
    for (parts, like_a_user), one, other in zip(chosen, *ranks, strict=True):
        assert_equal(one, other, str(parts))
        strategies = [made(part) for part in parts]
        if any(found.depends_on_split for found in strategies):
            continue
        alone = train([made(part) for part in parts], tmp_path, like_a_user=like_a_user, dropout=0.0).weights
        for name, value in one.items():
            torch.testing.assert_close(value, alone[name], rtol=1e-3, atol=1e-4, msg=f"{name} of {parts}")

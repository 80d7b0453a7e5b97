"""Three to five strategies at once, with any arguments: what `run` guarantees holds, or they refuse by name."""

from __future__ import annotations

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
from tests.callbacks.contract.arguments import table
from tests.callbacks.contract.combinations import (
    Part,
    clashes,
    class_of,
    combinations,
    made,
    refused_for_arguments,
    without_dropout,
)
from tests.callbacks.contract.fragments import FRAGMENTS, REFUSED
from tests.callbacks.contract.grounds import Ground, Texts, Vectors
from tests.callbacks.contract.guarantees import Guarantees
from tests.callbacks.contract.pairs import Marked, in_any_order
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
    guarantees, marked = Guarantees(timeline), Marked(root, set() if save_at is None else {save_at})
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
    known = 0 if save_at is None else marked.known[save_at]
    return Trained(weights, log.steps, timeline.events[known:], trainer.optimizers[0].state_dict())


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
            if not refused_for_arguments(str(refused), parts, like_a_user):
                raise
            return
        file = root / f"step={killed_at}.ckpt"
        again = train([made(part) for part in parts[::-1]], root, ckpt_path=file, **common)
        assert_equal(again.steps, whole.steps[killed_at:], "steps")
        assert_equal(again.weights, whole.weights, "weights")
        assert_equal(again.optimizer, whole.optimizer, "optimizer")
        assert in_any_order(again.events) == in_any_order(whole.events)


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


Chosen = list[tuple[list[Part], bool]]


def choose(ground: type[Ground], how: settings) -> Chosen:
    """Combinations that go together, without dropout of their own, and whether a user has changed the model."""
    chosen: Chosen = []

    @settings(how, database=None, phases=[Phase.generate])
    @given(parts=combinations(ground), like_a_user=st.booleans())
    def take(parts: list[Part], like_a_user: bool) -> None:
        if not clashes(parts):
            chosen.append(([without_dropout(part) for part in parts], like_a_user))

    take()
    return chosen


def on_a_rank(ground: Ground, chosen: Chosen, root: Path) -> list[dict[str, torch.Tensor]]:
    ranks: dict[str, Any] = {"devices": 2, "strategy": "ddp", "use_distributed_sampler": False}
    found: list[dict[str, torch.Tensor]] = []
    for parts, like_a_user in chosen:
        common: dict[str, Any] = {"ground": ground, "like_a_user": like_a_user, "dropout": 0.0}
        try:
            trained = train(
                [made(part) for part in parts], root, **common, before=(SameOnBothRanks(),), **ranks
            )
        except Exception as error:
            error.add_note(f"{parts}, like a user: {like_a_user}")
            raise
        found.append(trained.weights)
    return found


def hold_on_two_ranks(ground: Ground, chosen: Chosen, root: Path) -> None:
    """In one start of two processes: ranks stay equal; and do what one does, where rounding stays small."""
    alone: list[dict[str, torch.Tensor]] = []
    accepted: Chosen = []
    for parts, like_a_user in chosen:
        strategies = [made(part) for part in parts]
        try:
            trained = train(strategies, root, ground=ground, like_a_user=like_a_user, dropout=0.0)
        except ValueError as refused:
            if not refused_for_arguments(str(refused), parts, like_a_user):
                raise
            continue
        accepted.append((parts, like_a_user))
        alone.append(trained.weights)
    assert len(accepted) >= len(chosen) / 2
    ranks = on_two_ranks(on_a_rank, root, ground, accepted, root)
    for (parts, _), single, one, other in zip(accepted, alone, *ranks, strict=True):
        assert_equal(one, other, str(parts))
        # Adam makes steps of any size of the rounding of gradients that are zero, as of the biases of keys.
        if isinstance(ground, Texts) or any(made(part).depends_on_split for part in parts):
            continue
        for name, value in one.items():
            torch.testing.assert_close(value, single[name], rtol=1e-3, atol=1e-4, msg=f"{name} of {parts}")


def test_two_ranks(tmp_path: Path) -> None:
    hold_on_two_ranks(VECTORS, choose(Vectors, settings(BRIEF, max_examples=12))[-5:], tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_ranks_with_many_combinations(tmp_path: Path) -> None:
    hold_on_two_ranks(VECTORS, choose(Vectors, settings(LONG, max_examples=100)), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_ranks_with_many_combinations_on_a_bert(texts: Texts, tmp_path: Path) -> None:
    hold_on_two_ranks(texts, choose(Texts, settings(LONG, max_examples=40)), tmp_path)

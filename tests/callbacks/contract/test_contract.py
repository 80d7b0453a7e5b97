"""What every strategy must hold, alone and in pairs: applied to every fragment in configs/callbacks.

A new strategy is covered by its fragment; nothing here names one.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import bertlab.callbacks
from bertlab.callbacks.strategy import Strategy
from tests.bits import assert_equal
from tests.callbacks.contract.fragments import (
    FRAGMENTS,
    NAMES,
    REFUSED,
    SaveAfter,
    content,
    parser,
    run,
    strategy,
)
from tests.callbacks.contract.pairs import (
    CLIP,
    PAIRS,
    SETTINGS,
    Marked,
    Norms,
    Pair,
    composing,
    in_any_order,
    label,
    spread,
    turn,
)
from tests.doubles.same_on_both_ranks import SameOnBothRanks
from tests.ranks import on_two_ranks

#: What changes no weight of a training: the cache saves work, and is equal to none.
SAME_WEIGHTS = {"frozen_trunk_cache"}


def made(fragments: tuple[Path, ...]) -> list[Strategy]:
    return [strategy(fragment) for fragment in fragments]


def test_every_strategy_has_a_fragment() -> None:
    found: set[str] = set()
    for info in pkgutil.iter_modules(bertlab.callbacks.__path__, "bertlab.callbacks."):
        for _, kind in inspect.getmembers(importlib.import_module(info.name), inspect.isclass):
            concrete = issubclass(kind, Strategy) and kind is not Strategy and not inspect.isabstract(kind)
            if concrete and kind.__module__ == info.name:
                found.add(f"{kind.__module__}.{kind.__qualname__}")
    assert found
    assert found == {content(fragment)["class_path"] for fragment in FRAGMENTS}


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=NAMES)
def test_round_trips_through_yaml(fragment: Path) -> None:
    reader = parser()
    found = reader.parse_object({"strategy": content(fragment)})
    again = reader.parse_string(reader.dump(found))
    assert reader.dump(again) == reader.dump(found)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("fragment", FRAGMENTS, ids=NAMES)
def test_killed_and_resumed_is_never_killed(fragment: Path, accumulate: int, tmp_path: Path) -> None:
    common: dict[str, Any] = {"accumulate_grad_batches": accumulate, "enable_checkpointing": True}
    total = 24 // accumulate
    steps = {1, 2, 4, 6, 7, total // 2, total - 1}
    whole = run([strategy(fragment)], tmp_path, callbacks=(SaveAfter(tmp_path, steps),), **common)
    for step in sorted(steps):
        resumed = run([strategy(fragment)], tmp_path, ckpt_path=tmp_path / f"step={step}.ckpt", **common)
        assert_equal(resumed[1], whole[1][step:], f"steps after {step}")
        assert_equal(dict(resumed[0].state_dict()), dict(whole[0].state_dict()), f"weights after {step}")
        assert_equal(resumed[3], whole[3], f"optimizer after {step}")
        assert resumed[2] == [event for event in whole[2] if event[0] >= max(step, 1)], f"events after {step}"


def composes(pair: Pair, setting: str, root: Path) -> None:
    """In both orders of the list, and killed and resumed in the other order; or they are refused."""
    if pair not in composing():
        names = [type(one).__name__ for one in made(pair)]
        with pytest.raises((ValueError, RuntimeError), match=REFUSED) as refused:
            run(made(pair), root, **SETTINGS[setting])
        assert all(name in str(refused.value) for name in names)
        return
    common, norms = SETTINGS[setting], Norms()
    killed_at = 10 // common.get("accumulate_grad_batches", 1)
    marked = Marked(root, {killed_at})
    one = run(made(pair), root, callbacks=(marked, norms), enable_checkpointing=True, **common)
    other = run(made(pair[::-1]), root, **common)
    resumed = run(made(pair[::-1]), root, ckpt_path=root / f"step={killed_at}.ckpt", **common)
    for found, steps, events in ((other, 0, 0), (resumed, killed_at, marked.known[killed_at])):
        assert_equal(dict(found[0].state_dict()), dict(one[0].state_dict()), "weights")
        assert_equal(found[1], one[1][steps:], "steps")
        assert in_any_order(found[2]) == in_any_order(one[2][events:])
        assert_equal(found[3], one[3], "optimizer")
    if "gradient_clip_val" in common:
        norms.check()
    said = {name for _, name, what, _ in one[2] if what == "undone"}
    for fragment, partner in (pair, pair[::-1]):
        if fragment.stem not in SAME_WEIGHTS and type(strategy(fragment)).__name__ not in said:
            beside, both = alone(partner, setting), one[0].state_dict()
            assert any(name not in beside or not torch.equal(beside[name], both[name]) for name in both), (
                f"{fragment.stem} does nothing beside {partner.stem}, and does not say so"
            )


@cache
def alone(fragment: Path, setting: str) -> dict[str, torch.Tensor]:
    """The weights that a training with one strategy ends with."""
    with tempfile.TemporaryDirectory() as root:
        return dict(run([strategy(fragment)], Path(root), **SETTINGS[setting])[0].state_dict())


@pytest.mark.parametrize("pair", PAIRS, ids=label)
def test_pairs_compose_in_any_order_or_refuse_by_name(pair: Pair, tmp_path: Path) -> None:
    composes(pair, turn(pair), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids=label)
def test_pairs_accumulated_in_bf16_and_clipped(pair: Pair, tmp_path: Path) -> None:
    composes(pair, "all", tmp_path)


def test_every_strategy_is_paired_under_every_setting() -> None:
    for setting in SETTINGS:
        assert {one for pair in composing() if turn(pair) == setting for one in pair} == set(FRAGMENTS), (
            setting
        )
    assert {one for pair in spread(composing()) for one in pair} == set(FRAGMENTS)


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=NAMES)
def test_bf16_and_clipping(fragment: Path, tmp_path: Path) -> None:
    """Killed and resumed; all act; and none gives the optimizer more than is left by clipping.

    The last holds since gradients are changed by `run.edit_gradients`, which comes before clipping, also where noise is
    added to them.
    """
    common: dict[str, Any] = {
        "precision": "bf16-mixed",
        "gradient_clip_val": CLIP,
        "enable_checkpointing": True,
    }
    norms = Norms()
    whole = run([strategy(fragment)], tmp_path, callbacks=(norms, SaveAfter(tmp_path, {10})), **common)
    assert "undone" not in {what for _, _, what, _ in whole[2]}
    resumed = run([strategy(fragment)], tmp_path, ckpt_path=tmp_path / "step=10.ckpt", **common)
    assert_equal(resumed[1], whole[1][10:], "steps")
    assert_equal(dict(resumed[0].state_dict()), dict(whole[0].state_dict()), "weights")
    assert_equal(resumed[3], whole[3], "optimizer")
    assert len(norms.norms) == 24
    norms.check()


def on_a_rank(choices: list[tuple[Path, ...]], root: Path) -> list[dict[str, torch.Tensor]]:
    found: list[dict[str, torch.Tensor]] = []
    for chosen in choices:
        trained, *_ = run(
            made(chosen),
            root,
            dropout=0.0,
            callbacks=(SameOnBothRanks(),),
            devices=2,
            strategy="ddp",
            use_distributed_sampler=False,
        )
        found.append({name: value.clone() for name, value in trained.state_dict().items()})
    return found


def same_on_two_ranks(choices: list[tuple[Path, ...]], root: Path) -> None:
    ranks = on_two_ranks(on_a_rank, root, choices, root)
    for index, chosen in enumerate(choices):
        assert_equal(ranks[0][index], ranks[1][index], chosen)
        if any(strategy(fragment).depends_on_split for fragment in chosen):
            continue
        alone = run(made(chosen), root, dropout=0.0)[0].state_dict()
        for name, value in ranks[0][index].items():
            torch.testing.assert_close(value, alone[name], rtol=1e-3, atol=1e-5, msg=f"{name} of {chosen}")


def test_two_ranks_stay_equal_and_do_what_one_does(tmp_path: Path) -> None:
    """Trap 1: what is unfrozen after DDP has wrapped the model is trained alike on every rank."""
    same_on_two_ranks([*((fragment,) for fragment in FRAGMENTS), *spread(composing())], tmp_path)


def killed_on_a_rank(pairs: list[Pair], root: Path) -> list[tuple[Any, ...]]:
    """Of each pair what a training ends with, and one that goes on from its fifth step."""
    found: list[tuple[Any, ...]] = []
    common: dict[str, Any] = SETTINGS["all"] | {
        "devices": 2,
        "strategy": "ddp",
        "use_distributed_sampler": False,
    }
    for pair in pairs:
        folder = root / label(pair)
        same, saved = SameOnBothRanks(), SaveAfter(folder, {5})
        whole = run(made(pair), root, callbacks=(same, saved), enable_checkpointing=True, **common)
        resumed = run(made(pair), root, callbacks=(same,), ckpt_path=folder / "step=5.ckpt", **common)
        ends = ((ended[0], ended[1][start:], ended[3]) for ended, start in ((whole, 5), (resumed, 0)))
        found.append(
            tuple(
                ({name: value.clone() for name, value in trained.state_dict().items()}, steps, optimizer)
                for trained, steps, optimizer in ends
            )
        )
    return found


def test_two_ranks_accumulated_in_bf16_and_clipped_killed_and_resumed(tmp_path: Path) -> None:
    pairs = spread(composing())
    ranks = on_two_ranks(killed_on_a_rank, tmp_path, pairs, tmp_path)
    for pair, first, second in zip(pairs, *ranks, strict=True):
        assert_equal(first[0][0], second[0][0], f"weights of both ranks with {label(pair)}")
        for whole, resumed in (first, second):
            for what, one, other in zip(("weights", "steps", "optimizer"), resumed, whole, strict=True):
                assert_equal(one, other, f"{what} with {label(pair)}")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_ranks_with_every_pair(tmp_path: Path) -> None:
    same_on_two_ranks(list(composing()), tmp_path)

"""Who trains in turn with others computes alone, to the end of the process."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from experiments.turns import STEPS, Place, Turns, in_turn


def train(done: list[str], name: str, place: Place) -> str:
    """Two turns, and what comes after training."""
    turns = Turns(place)
    for step in range(2 * STEPS):
        turns.begin_step(step)
        done.append(name)
    done.append(f"{name} ends")
    return name.upper()


def test_a_turn_is_some_steps_and_the_last_one_lasts_to_the_end(tmp_path: Path) -> None:
    done: list[str] = []
    runs = {name: partial(train, done, name) for name in "ab"}
    assert in_turn(tmp_path / "ring", runs) == {"a": "A", "b": "B"}
    first, last = [*["a"] * STEPS, *["b"] * STEPS], [*["a"] * STEPS, "a ends", *["b"] * STEPS, "b ends"]
    assert done == first + last
    assert not (tmp_path / "ring").exists()


def test_who_fails_lets_the_others_go_on(tmp_path: Path) -> None:
    done: list[str] = []

    def fail(place: Place) -> str:
        Turns(place).begin_step(0)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        in_turn(tmp_path / "ring", {"a": partial(train, done, "a"), "b": fail})
    assert done == [*["a"] * 2 * STEPS, "a ends"]

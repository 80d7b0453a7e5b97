from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.corpus.random_numbers import below, chance, draw, draws, key_of, permuted, permuted_range


def split_mix(state: int) -> int:
    """The published step of SplitMix64, in Python's whole numbers."""
    value = state
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
    return value ^ (value >> 31)


def test_draws_are_split_mix_and_stay_so() -> None:
    """Vigna's splitmix64.c with seed 1234567 begins with these; a resumed run has to draw the same for ever."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [int(draw(np.uint64(1234567), n)) for n in range(3)] == published
    assert int(draw(np.uint64(5), 9)) == split_mix((5 + 10 * 0x9E3779B97F4A7C15) % 2**64)
    out = np.empty(3, dtype=np.uint64)
    draws(np.uint64(1234567), 1, out)
    assert out.tolist() == [*published[1:], int(draw(np.uint64(1234567), 3))]
    key = 3
    for number in (1, 2, 3):
        key = split_mix((key + (number + 1) * 0x9E3779B97F4A7C15) % 2**64)
    assert int(key_of(1, 2, 3)) == key
    assert [permuted(n, 11, key_of(7)) for n in range(11)] == [
        feistel(n, 11, int(key_of(7))) for n in range(11)
    ]


def feistel(value: int, count: int, key: int) -> int:
    """The permutation again, in Python's whole numbers."""
    half = next(h for h in range(1, 40) if 4**h >= count)
    while True:
        left, right = value >> half, value % 2**half
        for turn in range(4):
            bits = split_mix((key + turn + (right + 1) * 0x9E3779B97F4A7C15) % 2**64)
            left, right = right, left ^ bits % 2**half
        value = left << half | right
        if value < count:
            return value


def test_chance_and_below() -> None:
    assert chance(np.uint64(0)) == 0.0
    assert chance(np.uint64(2**64 - 1)) == 1.0 - 2.0**-53
    assert below(np.uint64(2**64 - 1), 10) == 9
    counts = np.bincount([below(np.uint64(draw(np.uint64(3), n)), 7) for n in range(7000)], minlength=7)
    assert counts.min() > 850
    assert counts.max() < 1150


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 300), key=st.integers(0, 2**62))
def test_permutations(count: int, key: int) -> None:
    places = permuted_range(0, count, count, key_of(key))
    assert sorted(places.tolist()) == list(range(count))
    assert places[count // 2] == permuted(count // 2, count, key_of(key))


def test_permutations_are_all_alike_likely() -> None:
    seen = {tuple(permuted_range(0, 3, 3, key_of(key)).tolist()): 0 for key in range(200)}
    for key in range(6000):
        seen[tuple(permuted_range(0, 3, 3, key_of(key)).tolist())] += 1
    assert len(seen) == 6
    assert min(seen.values()) > 800
    first = [permuted(0, 1000, key_of(key)) for key in range(2000)]
    assert np.mean(first) == pytest.approx(499.5, abs=30)

"""Bins hold every sequence once, none overlaps, and the chosen widths cost little."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertlab.encoders.bins import COST_OF_GROUP, COST_OF_PLACE, STEP, Bins, shared_bins, single_bins

some_lengths = st.lists(st.integers(1, 60), min_size=1, max_size=40)


def cost(groups: list[Bins]) -> int:
    return sum(COST_OF_GROUP + each.count * each.width * (each.width + COST_OF_PLACE) for each in groups)


@given(some_lengths, st.floats(0, 0.9))
def test_runs_hold_every_sequence_once_within_the_waste(lengths: list[int], max_waste: float):
    runs = single_bins(lengths, max_waste)
    assert [number for run in runs for number in run.sequences] == list(range(len(lengths)))
    for run in runs:
        held = [lengths[number] for number in run.sequences]
        padded = run.count * run.width
        assert run.width == max(held)
        assert run.bin == list(range(run.count))
        assert run.at == [0] * len(held)
        assert padded - sum(held) <= max_waste * padded


@given(some_lengths)
def test_no_waste_makes_a_run_of_each_stretch_of_equal_length(lengths: list[int]):
    stretches = 1 + sum(a != b for a, b in pairwise(lengths))
    assert len(single_bins(lengths, 0.0)) == stretches


def test_more_waste_makes_fewer_runs():
    lengths = list(range(60, 0, -1))
    counts = [len(single_bins(lengths, waste)) for waste in (0.0, 0.1, 0.3, 0.9)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 60
    assert counts[-1] < 4


@pytest.mark.parametrize("waste", [-0.1, 1.0])
def test_waste_out_of_range_is_refused(waste: float):
    with pytest.raises(ValueError, match="max_waste takes a share"):
        single_bins([3], waste)


@given(st.lists(st.integers(1, 600), min_size=1, max_size=60))
def test_shared_bins_hold_every_sequence_once_and_none_overlaps(lengths: list[int]):
    groups = shared_bins(lengths)
    assert sorted(number for group in groups for number in group.sequences) == list(range(len(lengths)))
    assert [group.width for group in groups] == sorted((group.width for group in groups), reverse=True)
    for group in groups:
        spans = sorted(
            (bin_, at, at + lengths[number])
            for number, bin_, at in zip(group.sequences, group.bin, group.at, strict=True)
        )
        assert {bin_ for bin_, _, _ in spans} == set(range(group.count))
        for (bin_, _, stop), (next_bin, start, _) in pairwise(spans):
            assert start == (stop if next_bin == bin_ else 0)
        assert spans[0][1] == 0
        assert max(stop for _, _, stop in spans) <= group.width


@given(st.lists(st.integers(1, 200), min_size=1, max_size=40))
def test_the_choice_costs_at_most_a_tenth_more_than_one_group_of_single_bins(lengths: list[int]):
    """A tenth, since how well bins fill up is only estimated."""
    widest = -(-max(lengths) // STEP) * STEP
    single = COST_OF_GROUP + len(lengths) * widest * (widest + COST_OF_PLACE)
    assert cost(shared_bins(lengths)) <= 1.1 * single


def test_equal_lengths_stay_alone_without_padding():
    assert shared_bins([13] * 5) == [Bins(13, 5, [0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [0] * 5)]


def test_short_texts_beside_a_long_one():
    """By hand: 3 bins of 64 in one group cost 23,552, one of 64 and 8 of 16 in two groups 25,600."""
    assert shared_bins([16] * 8 + [64]) == [
        Bins(64, 3, [8, *range(8)], [0] + [1] * 4 + [2] * 4, [0] + [0, 16, 32, 48] * 2)
    ]


def test_many_short_texts_are_not_put_into_the_bins_of_a_long_one():
    groups = shared_bins([512] + [20] * 200)
    assert [group.width for group in groups] == [512, 24]


def test_nothing_makes_no_bins():
    assert shared_bins([]) == []

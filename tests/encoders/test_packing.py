"""Runs of like length hold every sequence once and waste no more than asked."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertlab.encoders.packing import pack, runs_of_like_length

some_lengths = st.lists(st.integers(1, 60), min_size=1, max_size=40)


@given(some_lengths, st.floats(0, 0.9))
def test_runs_hold_every_sequence_once_within_the_waste(lengths: list[int], max_waste: float):
    runs = runs_of_like_length(lengths, max_waste)
    assert [number for run in runs for number in range(run.start, run.stop)] == list(range(len(lengths)))
    for run in runs:
        held = lengths[run.start : run.stop]
        padded = len(held) * run.longest
        assert run.longest == max(held)
        assert padded - sum(held) <= max_waste * padded


@given(some_lengths)
def test_no_waste_makes_a_run_of_each_stretch_of_equal_length(lengths: list[int]):
    stretches = 1 + sum(a != b for a, b in pairwise(lengths))
    assert len(runs_of_like_length(lengths, 0.0)) == stretches


def test_more_waste_makes_fewer_runs():
    lengths = list(range(60, 0, -1))
    counts = [len(runs_of_like_length(lengths, waste)) for waste in (0.0, 0.1, 0.3, 0.9)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 60
    assert counts[-1] < 4


@pytest.mark.parametrize("waste", [-0.1, 1.0])
def test_waste_out_of_range_is_refused(waste: float):
    with pytest.raises(ValueError, match="max_waste takes a share"):
        runs_of_like_length([3], waste)


@given(some_lengths, st.floats(0, 0.9))
def test_padding_and_taking_it_off_gives_the_tokens_back(lengths: list[int], max_waste: float):
    packing = pack(torch.tensor(lengths), torch.device("cpu"), max_waste)
    tokens = torch.arange(sum(lengths))
    positions = [place for length in lengths for place in range(length)]
    assert packing.positions.tolist() == positions
    assert tokens[packing.starts].tolist() == [i for i, place in enumerate(positions) if place == 0]
    first = 0
    for run in packing.runs:
        own = tokens[run.first : run.first + run.tokens]
        assert run.first == first
        first += run.tokens
        if run.take is None:
            assert run.sequences * run.longest == run.tokens
            continue
        assert run.keep is not None
        assert run.padding is not None
        padded = own[run.take]
        assert torch.equal(padded[run.keep], own)
        assert torch.equal((~run.padding).reshape(-1).nonzero().reshape(-1), run.keep)
    assert first == sum(lengths)

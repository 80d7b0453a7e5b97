"""The places of the groups hold every token once, and no token sees one of another sequence."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertlab.encoders.packing import pack

some_lengths = st.lists(st.integers(1, 60), min_size=1, max_size=40)
CPU = torch.device("cpu")


@given(some_lengths, st.none() | st.floats(0, 0.9))
def test_laying_out_and_taking_back_gives_the_tokens_back(lengths: list[int], max_waste: float | None):
    packing = pack(torch.tensor(lengths), CPU, max_waste)
    tokens = torch.arange(sum(lengths))
    positions = [place for length in lengths for place in range(length)]
    rows = [number for number, length in enumerate(lengths) for _ in range(length)]
    assert packing.positions.tolist() == positions
    assert packing.rows.tolist() == rows
    assert packing.longest == max(lengths)
    assert tokens[packing.starts].tolist() == [i for i, place in enumerate(positions) if place == 0]
    take = tokens if packing.layout.take is None else packing.layout.take
    keep = tokens if packing.layout.keep is None else packing.layout.keep
    assert torch.equal(take[keep], tokens)
    for group in packing.layout.groups:
        own = take[group.places].view(group.bins, group.width)
        if group.owner is None:
            assert (packing.rows[own] == packing.rows[own[:, :1]]).all()
            assert own.numel() == sum(lengths[row] for row in packing.rows[own[:, 0]].tolist())
            continue
        real = group.owner >= 0
        assert torch.equal(packing.rows[own][real], group.owner[real])
        assert torch.equal(own[~real], own[:, :1].expand_as(own)[~real])
        assert int(real.sum()) == sum(lengths[row] for row in group.owner[real].unique().tolist())


@given(some_lengths, st.none() | st.floats(0, 0.9), st.none() | st.integers(1, 70))
def test_a_token_sees_its_own_sequence_within_the_window(
    lengths: list[int], max_waste: float | None, window: int | None
):
    packing = pack(torch.tensor(lengths), CPU, max_waste)
    take = torch.arange(sum(lengths)) if packing.layout.take is None else packing.layout.take
    for group in packing.layout.groups:
        bias = packing.bias(group, window, torch.float32)
        if bias is None:
            assert group.owner is None
            assert window is None or group.width <= window
            continue
        own = take[group.places].view(group.bins, group.width)
        rows, positions = packing.rows[own], packing.positions[own]
        real = torch.ones_like(own, dtype=torch.bool) if group.owner is None else group.owner >= 0
        seen = rows[:, :, None] == rows[:, None, :]
        if window is not None:
            seen &= (positions[:, :, None] - positions[:, None, :]).abs() < window
        seen &= real[:, None, :]
        assert torch.equal((bias[:, 0] == 0)[real], seen[real])
        assert (bias[:, 0] == 0).any(2).all()  # a place of padding sees at least itself
        assert packing.bias(group, window, torch.float32) is bias


@pytest.mark.parametrize("max_waste", [None, 0.0])
def test_equal_lengths_need_no_laying_out(max_waste: float | None):
    packing = pack(torch.tensor([7, 7, 7]), CPU, max_waste)
    assert packing.layout.take is None
    assert packing.layout.keep is None
    (group,) = packing.layout.groups
    assert (group.start, group.bins, group.width, group.owner) == (0, 3, 7, None)

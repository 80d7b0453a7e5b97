"""SGDR against torch's CosineAnnealingWarmRestarts and the arithmetic of the paper."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertlab.schedules.sgdr import Cycle, cycle_at, restart_factor


@pytest.mark.parametrize(
    ("first", "multiplier", "minimum"), [(7, 1, 0.0), (5, 2, 0.0), (3, 3, 0.1), (1, 1, 0.5)]
)
def test_equals_torch(first, multiplier, minimum):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, first, multiplier, minimum)
    for step in range(100):
        cycle = cycle_at(step, first, multiplier)
        ours = restart_factor((step - cycle.start) / cycle.length, cycle.index, minimum_factor=minimum)
        assert ours == pytest.approx(scheduler.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_equation_5_of_the_paper_at_hand_values():
    # eta_min 0.1, eta_max 1, T_i 10, T_cur 4: 0.1 + 0.45·(1 + cos(0.4·pi))
    assert restart_factor(0.4, minimum_factor=0.1) == pytest.approx(
        0.1 + 0.45 * (1 + math.cos(0.4 * math.pi))
    )
    assert restart_factor(0.4, minimum_factor=0.1) == pytest.approx(0.6890576, abs=1e-6)


@given(
    step=st.integers(0, 5000),
    first=st.integers(1, 200),
    multiplier=st.one_of(st.just(1.0), st.floats(1.0, 3.0, exclude_min=True)),
)
def test_cycles_cover_all_steps_without_gap_or_overlap(step, first, multiplier):
    cycle = cycle_at(step, first, multiplier)
    assert cycle.start <= step < cycle.start + cycle.length
    assert cycle_at(cycle.start, first, multiplier) == cycle
    following = cycle_at(cycle.start + cycle.length, first, multiplier)
    assert (following.index, following.start) == (cycle.index + 1, cycle.start + cycle.length)
    assert following.length == round(first * multiplier**following.index) >= cycle.length


def test_lengths_are_rounded_from_their_exact_value():
    starts = [0]
    while len(starts) < 6:
        cycle = cycle_at(starts[-1], 3, 1.5)
        starts.append(cycle.start + cycle.length)
    assert starts == [0, 3, 7, 14, 24, 39]  # lengths 3, 4.5, 6.75, 10.125, 15.1875


@given(
    index=st.integers(0, 20),
    decay=st.floats(0.01, 1),
    warmup=st.floats(0, 0.9),
    minimum=st.floats(0, 1),
    progress=st.floats(0, 1),
)
def test_a_factor_is_between_the_minimum_and_the_peak(index, decay, warmup, minimum, progress):
    settings = {"peak_decay": decay, "warmup_fraction": warmup, "minimum_factor": minimum}
    peak = restart_factor(warmup, index, **settings)
    assert peak == pytest.approx(max(decay**index, minimum))
    assert minimum - 1e-12 <= restart_factor(progress, index, **settings) <= peak + 1e-12
    assert restart_factor(1.0, index, **settings) == pytest.approx(minimum)


def test_warm_up_within_a_cycle_climbs_from_the_minimum():
    found = [
        restart_factor(p, 1, peak_decay=0.6, warmup_fraction=0.4, minimum_factor=0.2) for p in (0, 0.2, 0.4)
    ]
    assert found == pytest.approx([0.2, 0.4, 0.6])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cycle_at(-1, 5), "step takes 0 or more, got -1"),
        (lambda: cycle_at(0, 0), "cycle_steps takes 1 step or more, got 0"),
        (lambda: cycle_at(0, 5, 0.5), "multiplier takes a number of 1 or more, got 0.5"),
        (lambda: cycle_at(0, 5, math.inf), "multiplier takes a number of 1 or more, got inf"),
        (lambda: restart_factor(1.1), r"progress takes a number in \[0, 1\], got 1.1"),
        (lambda: restart_factor(0, -1), "cycle_index takes 0 or more, got -1"),
        (lambda: restart_factor(0, peak_decay=0), r"peak_decay takes a number in \(0, 1\], got 0"),
        (lambda: restart_factor(0, warmup_fraction=1), r"warmup_fraction takes a number in \[0, 1\), got 1"),
        (lambda: restart_factor(0, minimum_factor=-1), r"minimum_factor takes a number in \[0, 1\], got -1"),
    ],
)
def test_arguments_out_of_range_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_step_a_million_steps_on_takes_no_time_with_equal_cycles():
    assert cycle_at(10**12, 7) == Cycle(index=142857142857, start=999999999999, length=7)

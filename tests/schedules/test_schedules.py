"""Every schedule against transformers' (an independent implementation), hand values, and its own contract."""

import dataclasses
import math

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from bertlab.schedules.constant import Constant
from bertlab.schedules.cosine import Cosine
from bertlab.schedules.inverse_sqrt import InverseSqrt
from bertlab.schedules.linear import Linear
from bertlab.schedules.one_cycle import OneCycle
from bertlab.schedules.polynomial import Polynomial
from bertlab.schedules.schedule import Schedule
from bertlab.schedules.slanted_triangular import SlantedTriangular
from bertlab.schedules.warmup_stable_decay import WarmupStableDecay

TOTAL, WARM = 200, 20
RISING = [Constant, Linear, Cosine, Polynomial, InverseSqrt, WarmupStableDecay]
ALL = [*RISING, SlantedTriangular, OneCycle]


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def rates(scheduler: torch.optim.lr_scheduler.LRScheduler, steps: int = TOTAL) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("schedule", "reference"),
    [
        (Constant(0.1), lambda o: transformers.get_constant_schedule_with_warmup(o, WARM)),
        (Linear(0.1), lambda o: transformers.get_linear_schedule_with_warmup(o, WARM, TOTAL)),
        (Cosine(0.1), lambda o: transformers.get_cosine_schedule_with_warmup(o, WARM, TOTAL)),
        (
            Cosine(0.1, final_factor=0.2),
            lambda o: transformers.get_cosine_with_min_lr_schedule_with_warmup(
                o, WARM, TOTAL, min_lr_rate=0.2
            ),
        ),
        (
            Polynomial(0.1, power=2.5, final_factor=0.01),
            lambda o: transformers.get_polynomial_decay_schedule_with_warmup(
                o, WARM, TOTAL, lr_end=0.01, power=2.5
            ),
        ),
        (InverseSqrt(0.1), lambda o: transformers.get_inverse_sqrt_schedule(o, WARM)),
        (
            InverseSqrt(0.1, timescale_fraction=0.25),
            # transformers shifts the curve by timescale - warmup, so that it is 1 where the warm-up ends
            lambda o: transformers.get_inverse_sqrt_schedule(o, WARM, timescale=50),
        ),
        (
            WarmupStableDecay(0.1, decay_fraction=0.3),
            lambda o: transformers.get_wsd_schedule(
                o, WARM, num_decay_steps=60, num_training_steps=TOTAL, decay_type="1-sqrt"
            ),
        ),
        (
            OneCycle(0.25),
            # torch counts its last step at total_steps - 1 and its peak one step early
            lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 1.0, total_steps=TOTAL + 1, pct_start=51 / 201),
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Schedule) else "reference",
)
def test_equals_an_independent_implementation(schedule, reference):
    ours = [schedule(step / TOTAL) for step in range(TOTAL)]
    assert ours == pytest.approx(rates(reference(optimizer())), abs=1e-12)


def test_slanted_triangular_is_equation_3_of_the_paper():
    total, cut_fraction, ratio = 1000, 0.1, 32
    cut = math.floor(total * cut_fraction)
    schedule = SlantedTriangular(cut_fraction, ratio)
    for step in range(total + 1):
        p = step / cut if step < cut else 1 - (step - cut) / (cut * (1 / cut_fraction - 1))
        assert schedule(step / total) == pytest.approx((1 + p * (ratio - 1)) / ratio, abs=1e-12)


@pytest.mark.parametrize("kind", RISING)
def test_warm_up_is_a_straight_line_from_zero_to_the_full_rate(kind):
    schedule = kind(warmup_fraction=0.4)
    assert [schedule(p) for p in (0.0, 0.1, 0.2, 0.4)] == pytest.approx([0, 0.25, 0.5, 1])


@pytest.mark.parametrize("kind", ALL)
@given(progress=st.floats(0, 1), warmup=st.floats(0.001, 0.85))
def test_a_factor_is_always_between_0_and_1(kind, progress, warmup):
    assert 0 <= kind(warmup_fraction=warmup)(progress) <= 1 + 1e-12


@pytest.mark.parametrize("kind", ALL)
@given(warmup=st.floats(0.01, 0.85), first=st.floats(0, 1), second=st.floats(0, 1))
def test_after_the_warm_up_no_factor_grows(kind, warmup, first, second):
    schedule = kind(warmup_fraction=warmup)
    early, late = sorted(warmup + (1 - warmup) * p for p in (first, second))
    assert schedule(min(late, 1.0)) <= schedule(min(early, 1.0)) + 1e-9


@pytest.mark.parametrize("kind", [Linear, Cosine, Polynomial, WarmupStableDecay])
def test_ends_at_the_final_factor(kind):
    assert kind(0.1)(1.0) == pytest.approx(0, abs=1e-12)
    assert kind(0.1, final_factor=0.3)(1.0) == pytest.approx(0.3)
    with pytest.raises(ValueError, match=rf"{kind.__name__}.final_factor takes a number in \[0, 1\], got 2"):
        kind(final_factor=2)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("value", [-0.1, 1.0, math.nan])
def test_a_warm_up_out_of_range_is_named(kind, value):
    with pytest.raises(ValueError, match=rf"{kind.__name__}.warmup_fraction takes a number in \[0, 1\), got"):
        kind(warmup_fraction=value)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("progress", [-0.01, 1.01, math.nan])
def test_a_progress_out_of_range_is_refused(kind, progress):
    with pytest.raises(ValueError, match=rf"{kind.__name__} takes a progress in \[0, 1\], got"):
        kind(warmup_fraction=0.1)(progress)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Polynomial(power=0), "Polynomial.power takes a number above 0, got 0"),
        (lambda: InverseSqrt(0.0), "give timescale_fraction"),
        (lambda: InverseSqrt(timescale_fraction=-1), "timescale_fraction takes a number above 0, got -1"),
        (lambda: SlantedTriangular(0.0), r"warmup_fraction takes a number in \(0, 1\), got 0"),
        (lambda: SlantedTriangular(ratio=0.5), "ratio takes a number of 1 or more, got 0.5"),
        (lambda: OneCycle(0.0), r"warmup_fraction takes a number in \(0, 1\), got 0"),
        (lambda: OneCycle(start_divisor=0.1), "start_divisor takes a number of 1 or more, got 0.1"),
        (lambda: WarmupStableDecay(decay_fraction=0), r"decay_fraction takes a number in \(0, 1\], got 0"),
        (lambda: WarmupStableDecay(0.6, 0.6), "together take at most 1, got 0.6 \\+ 0.6"),
    ],
)
def test_arguments_out_of_range_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("kind", ALL)
def test_schedules_are_frozen_and_equal_by_value(kind):
    schedule = kind(warmup_fraction=0.2)
    assert schedule == kind(warmup_fraction=0.2) != kind(warmup_fraction=0.3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.warmup_fraction = 0.5

"""The original schedule against Google's formula, step by step."""

import numpy as np
import pytest

from bertlab.schedules.linear import Linear
from bertlab.schedules.linear_from_start import LinearFromStart


def google(step: int, steps: int, warmup_steps: int, end: float = 0.0) -> float:
    """optimization.py's create_optimizer, of a rate of 1."""
    global_step = min(step, steps)  # tf.train.polynomial_decay
    rate = (1.0 - end) * (1 - global_step / steps) + end
    if warmup_steps:
        is_warmup = float(step < warmup_steps)
        rate = (1.0 - is_warmup) * rate + is_warmup * (step / warmup_steps)
    return rate


@pytest.mark.parametrize(
    ("steps", "warm", "end"), [(1000, 10, 0.0), (1000, 0, 0.0), (777, 100, 0.1), (50, 49, 0.0)]
)
def test_is_google_s_at_every_step(steps: int, warm: int, end: float):
    schedule = LinearFromStart(warm / steps, end)
    ours = [schedule(step / steps) for step in range(steps + 1)]
    np.testing.assert_allclose(ours, [google(s, steps, warm, end) for s in range(steps + 1)], atol=1e-12)


def test_the_original_run():
    schedule = LinearFromStart(warmup_fraction=10_000 / 1_000_000)
    rates = {step: 1e-4 * schedule(step / 1_000_000) for step in (0, 1, 9_999, 10_000, 500_000, 1_000_000)}
    assert rates == pytest.approx(
        {0: 0.0, 1: 1e-8, 9_999: 9.999e-5, 10_000: 9.9e-5, 500_000: 5e-5, 1_000_000: 0.0}, rel=1e-9, abs=1e-15
    )


def test_without_warm_up_it_is_linear():
    for progress in np.linspace(0, 1, 11):
        assert LinearFromStart()(progress) == pytest.approx(Linear()(progress))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"final_factor": 2.0}, r"LinearFromStart.final_factor takes a number in \[0, 1\], got 2.0"),
        ({"warmup_fraction": 1.0}, r"LinearFromStart.warmup_fraction takes a number in \[0, 1\), got 1.0"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        LinearFromStart(**arguments)

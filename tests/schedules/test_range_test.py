"""The range test on curves whose steepest and lowest points are known."""

from __future__ import annotations

import math
import random

import pytest

from bertlab.schedules.range_test import RangeTest, exponential_mean, finite


def curve(rate: float, falls_at: float = 1e-4, blows_up_at: float = 1e-2) -> float:
    """From 2 down to 1, steepest in the logarithm of the rate at `falls_at`; then up without end."""
    fall = 1 / (1 + (rate / falls_at) ** 2)
    return 1 + fall + (rate / blows_up_at) ** 2


def losses(test: RangeTest, noise: float = 0.0, **arguments: float) -> list[float]:
    generator = random.Random(0)
    return [curve(test.rate(step), **arguments) + generator.gauss(0, noise) for step in range(test.steps)]


@pytest.mark.parametrize("steps", [100, 300])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_finds_the_steepest_and_the_lowest_point(steps: int, noise: float) -> None:
    test = RangeTest(lr_min=1e-7, lr_max=1.0, steps=steps)
    found = test.suggestions(losses(test, noise))
    assert found is not None
    lowest = min((10 ** (-5 + i / 100) for i in range(400)), key=curve)
    assert 0.5 < found.steepest / 1e-4 < 2
    assert 0.4 < found.minimum_tenth / (lowest / 10) < 2.5


def test_does_not_trail_behind_the_curve() -> None:
    """The trailing mean of 0.9 does, by nine steps: at 100 steps for seven decades by a factor of 4."""
    test = RangeTest()
    of_losses = losses(test)
    found = test.suggestions(of_losses)
    assert found is not None
    trailing = exponential_mean(of_losses, test.smoothing)
    late = min(range(1, 98), key=lambda step: trailing[step + 1] - trailing[step - 1])
    assert test.rate(late) > 2 * found.steepest


def test_suggestions_follow_the_curve() -> None:
    test = RangeTest()
    low, high = (
        test.suggestions(losses(test, falls_at=1e-5 * f, blows_up_at=1e-3 * f)) for f in (1.0, 100.0)
    )
    assert low is not None
    assert high is not None
    assert high.steepest / low.steepest == pytest.approx(100, rel=0.4)
    assert high.minimum_tenth / low.minimum_tenth == pytest.approx(100, rel=0.4)


def test_what_is_not_finite_does_not_count() -> None:
    test = RangeTest()
    whole = losses(test)
    assert finite([1.0, 2.0, math.inf, 1.0]) == [1.0, 2.0]
    assert test.suggestions([*whole[:80], math.nan, 0.0]) == test.suggestions(whole[:80])
    assert test.suggestions([math.nan]) is None
    assert test.suggestions([]) is None


def test_a_loss_that_only_rises_suggests_nothing() -> None:
    test = RangeTest()
    assert test.suggestions([1 + 0.01 * step for step in range(100)]) is None
    # A dip of one step, smaller than the rise after it, is no fall.
    assert RangeTest(smoothing=0.0).suggestions([1.0, 0.99, *(1.1 + step for step in range(98))]) is None


def test_diverges_when_the_mean_has_left_its_lowest_far_behind() -> None:
    test = RangeTest(smoothing=0.5, divergence=3.0)
    falling = [2.0, 1.5, 1.0, 1.0, 1.0]
    assert not test.diverged(falling)
    assert not test.diverged([*falling, 4.0])
    assert test.diverged([*falling, 4.0, 5.0])
    assert test.diverged([*falling, math.inf])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr_min": 0.0}, "lr_min takes a number above 0, got 0.0"),
        ({"lr_min": math.nan}, "lr_min"),
        ({"lr_min": 1.0, "lr_max": 0.1}, "lr_max takes a number above lr_min, which is 1.0, got 0.1"),
        ({"lr_max": math.inf}, "lr_max"),
        ({"steps": 9}, "steps takes 10 or more, got 9"),
        ({"smoothing": 1.0}, r"smoothing takes a number in \[0, 1\), got 1.0"),
        ({"divergence": 1.0}, "divergence takes a number above 1, got 1.0"),
    ],
)
def test_bad_arguments(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RangeTest(**arguments)  # pyright: ignore[reportArgumentType]

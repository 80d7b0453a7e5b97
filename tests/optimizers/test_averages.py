from __future__ import annotations

import pytest
import torch

from bertlab.optimizers.averages import exponential_decay, mean_of, move_towards, started


def test_moves_by_the_share_of_the_distance():
    average = started({"w": torch.tensor([1.0, -2.0])})
    move_towards(average, {"w": torch.tensor([5.0, 2.0])}, 0.25)
    assert average["w"].tolist() == [2.0, -1.0]
    move_towards(average, {"w": torch.tensor([5.0, 2.0])}, 1.0)
    assert average["w"].tolist() == [5.0, 2.0]


def test_is_a_copy():
    weight = torch.nn.Parameter(torch.ones(2))
    average = started({"w": weight})
    move_towards(average, {"w": weight + 1}, 0.5)
    assert weight.tolist() == [1.0, 1.0]
    assert not average["w"].requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_small_steps_are_not_lost(dtype):
    """A bfloat16 average would stand still: 1 + 0.001 · (2 − 1) rounds to 1."""
    average = started({"w": torch.ones(3, dtype=dtype)})
    for _ in range(100):
        move_towards(average, {"w": torch.full((3,), 2.0, dtype=dtype)}, 0.001)
    assert average["w"].dtype == torch.float32
    torch.testing.assert_close(average["w"], torch.full((3,), 2 - 0.999**100))


def test_double_stays_double():
    average = started({"w": torch.ones(1, dtype=torch.float64)})
    move_towards(average, {"w": torch.full((1,), 1 + 1e-12, dtype=torch.float64)}, 0.5)
    assert average["w"].item() == pytest.approx(1 + 5e-13, rel=1e-16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_average_of_one_value_is_that_value_to_the_bit(dtype):
    value = torch.randn(1000, generator=torch.Generator().manual_seed(0)).to(dtype)
    average = started({"w": value})
    for share in (0.001, 1 / 3, 0.1, 0.7, 1 / 7):
        move_towards(average, {"w": value}, share)
    assert torch.equal(average["w"].to(dtype), value)
    assert torch.equal(mean_of([{"w": value}] * 7)["w"].to(dtype), value)


def test_mean_of_random_sets_is_the_mean():
    sets = [{"w": torch.randn(50, 3)} for _ in range(6)]
    expected = torch.stack([one["w"].double() for one in sets]).mean(0)
    torch.testing.assert_close(mean_of(iter(sets))["w"].double(), expected, rtol=0, atol=3e-7)


def test_warm_up_of_the_decay():
    steps = [0, 1, 8, 89, 890]
    assert [exponential_decay(0.99, t, True) for t in steps] == [0.1, 2 / 11, 0.5, 90 / 99, 0.99]
    assert [exponential_decay(0.99, t, False) for t in steps] == [0.99] * 5

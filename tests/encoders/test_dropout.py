"""Dropout with cheap masks drops the stated share, independently, and keeps the expectation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bertlab.encoders.dropout import Dropout, draw_mask, dropout, dropout_add, kept_share, swap_dropout

DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
COUNT = 1_000_000


def kept(p: float, count: int = COUNT, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return (draw_mask((count,), p) != 0).double()


@pytest.mark.parametrize("p", [0.003, 0.1, 0.5, 0.9])
def test_the_stated_share_is_dropped(p: float):
    deviation = (p * (1 - p) / COUNT) ** 0.5
    assert abs((1 - kept(p)).mean().item() - p) < 4 * deviation + 1 / 65536


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 64, 384])
def test_elements_are_independent(lag: int):
    noise = kept(0.1) - 0.9
    correlation = (noise[lag:] * noise[:-lag]).mean() / 0.09
    assert abs(correlation.item()) < 4 / COUNT**0.5


def test_neighbours_share_the_step_between_two_values_of_a_byte_and_no_more():
    """The variance of a block's share is that of independent elements, and by the step: (1/256)²·f(1 − f) more."""
    p, blocks = 1.5 / 256, 25_000
    shares = 1 - kept(p, 1024 * blocks).view(-1, 1024).mean(1)
    expected = p * (1 - p) / 1024 + (0.25 / 256**2) * 1023 / 1024
    assert shares.var().item() == pytest.approx(expected, rel=0.04)
    assert shares.mean().item() == pytest.approx(p, rel=0.01)


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize("p", [0.3, 0.999])
def test_any_number_of_elements(count: int, p: float):
    mask = draw_mask((count,), p)
    assert mask.shape == (count,)
    assert set(mask.tolist()) <= {0, -1}


def test_masks_of_one_seed_after_another_are_independent():
    torch.manual_seed(0)
    one, other = ((draw_mask((COUNT,), 0.1) != 0).double() - 0.9 for _ in range(2))
    assert abs((one * other).mean().item() / 0.09) < 4 / COUNT**0.5


@pytest.mark.parametrize("p", [0.1, 0.123456, 0.5, 1e-9, 0.9999999])
def test_what_is_kept_is_scaled_by_the_realised_share(p: float):
    torch.manual_seed(0)
    output = dropout(torch.ones(1000, dtype=torch.float64), p, training=True)
    values = output.unique().tolist()
    assert all(value == 0 or value == pytest.approx(1 / kept_share(p)) for value in values)
    assert abs(kept_share(p) - (1 - p)) <= 1 / 65536


@pytest.mark.parametrize("dtype", DTYPES)
def test_backward_lays_on_the_same_mask(dtype: torch.dtype):
    values = torch.ones(64, 33, dtype=dtype, requires_grad=True)
    output = dropout(values, 0.4, training=True)
    output.backward(torch.ones_like(output))
    assert output.dtype == dtype
    assert torch.equal(values.grad, output.detach())
    assert 0 < (output == 0).sum() < output.numel()


def test_values_not_contiguous():
    values = torch.randn(8, 16).t().requires_grad_()
    output = dropout(values, 0.5, training=True)
    output.backward(torch.ones(8, 16).t())
    assert torch.equal((output == 0), (values.grad == 0))


def test_sum_with_a_residual_in_bfloat16_keeps_the_expectation():
    """In bfloat16 1/0.9 is off by 0.16 %; the scale is applied in the precision of the sum."""
    torch.manual_seed(0)
    values = torch.ones(COUNT, dtype=torch.bfloat16)
    total = dropout_add(values, torch.zeros(COUNT), 0.1, training=True)
    assert total.dtype == torch.float32
    assert total.unique().tolist() == [0.0, pytest.approx(1 / kept_share(0.1), abs=1e-7)]
    assert total.double().mean().item() == pytest.approx(1.0, abs=4 * (1 / 9 / COUNT) ** 0.5)


def test_gradient_of_sum_with_a_residual():
    values = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    residual = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)

    def function(values: Tensor, residual: Tensor) -> Tensor:
        torch.manual_seed(0)
        return dropout_add(values, residual, 0.3, training=True)

    assert torch.autograd.gradcheck(function, (values, residual))
    values16 = torch.randn(5, 7).bfloat16().requires_grad_()
    function(values16, residual.float()).sum().backward()
    assert values16.grad.dtype == torch.bfloat16


def test_follows_the_generator_of_torch():
    values = torch.ones(100)
    torch.manual_seed(7)
    one, other = dropout(values, 0.5, True), dropout(values, 0.5, True)
    torch.manual_seed(7)
    again = dropout(values, 0.5, True)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_generator_of_its_own_decides():
    values, state = torch.ones(1000), torch.get_rng_state()

    def drop(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return dropout(values, 0.5, training=True, generator=generator)

    assert torch.equal(drop(0), drop(0))
    assert not torch.equal(drop(0), drop(1))
    assert set(drop(0).tolist()) == {0.0, 2.0}
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.5, False)])
def test_off_draws_nothing(p: float, training: bool):
    values = torch.randn(10)
    state = torch.get_rng_state()
    assert dropout(values, p, training) is values
    assert torch.equal(dropout_add(values, values, p, training), values + values)
    assert torch.equal(torch.get_rng_state(), state)


def test_swap_takes_the_place_of_plain_dropout_alone():
    model = nn.Sequential(
        nn.Linear(3, 3), nn.Dropout(0.25), nn.Sequential(nn.Dropout2d(0.5), nn.Dropout(0.75))
    )
    model.eval()
    swap_dropout(model)
    assert [type(module) for module in (model[1], model[2][0], model[2][1])] == [
        Dropout,
        nn.Dropout2d,
        Dropout,
    ]
    assert (model[1].p, model[2][1].p) == (0.25, 0.75)
    assert not model[1].training
    values = torch.ones(1000, 3)
    assert torch.equal(model[1](values), values)
    model.train()
    assert 0.15 < (model[1](values) == 0).double().mean() < 0.35


@pytest.mark.gpu
def test_on_cuda_it_is_the_dropout_of_torch():
    values = torch.ones(1000, device="cuda")
    torch.manual_seed(0)
    ours = dropout(values, 0.3, True)
    torch.manual_seed(0)
    assert torch.equal(ours, functional.dropout(values, 0.3))

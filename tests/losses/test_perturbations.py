"""Against a loop over the sequences and against hand-computed values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bertlab.losses.perturbations import (
    relative_ascent,
    sequence_ascent,
    sequence_noise,
    sequence_norms,
    weight_ascent,
    within_radius,
)

LENGTHS = [5, 3, 3, 1]
ROWS = torch.arange(4).repeat_interleave(torch.tensor(LENGTHS))


def vectors(seed: int = 0) -> Tensor:
    return torch.randn(12, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def each(values: Tensor) -> list[Tensor]:
    return list(values.split(LENGTHS))


def test_norms_are_those_of_each_sequence() -> None:
    found = sequence_norms(vectors(), ROWS)
    assert found.shape == (12, 1)
    for norm, part in zip(each(found), each(vectors()), strict=True):
        torch.testing.assert_close(norm, part.norm().expand(len(part), 1))


def test_an_ascent_has_the_asked_length_and_the_direction_of_the_gradient() -> None:
    gradient = vectors()
    gradient[5:8] = 0.0  # the second sequence has no gradient
    found = each(sequence_ascent(gradient, ROWS, 0.7))
    for step, part in zip(found, each(gradient), strict=True):
        expected = torch.zeros_like(part) if not part.any() else 0.7 * part / part.norm()
        torch.testing.assert_close(step, expected)


def test_a_gradient_may_be_as_small_as_that_of_a_share_in_a_large_step() -> None:
    gradient = 1e-15 * vectors().float()
    found = sequence_ascent(gradient, ROWS, 1.0)
    torch.testing.assert_close(found, sequence_ascent(vectors().float(), ROWS, 1.0))


@pytest.mark.parametrize("radius", [0.5, 3.0, 1e6])
def test_projection(radius: float) -> None:
    perturbation = vectors()
    perturbation[8:11] = 0.0
    for found, part in zip(each(within_radius(perturbation, ROWS, radius)), each(perturbation), strict=True):
        torch.testing.assert_close(found, part * min(1.0, radius / max(float(part.norm()), 1e-9)))


def test_half_precision_is_kept_and_its_norms_are_not_rounded() -> None:
    half = vectors().bfloat16()
    assert sequence_norms(half, ROWS).dtype == torch.float32
    for changed in (sequence_ascent(half, ROWS, 1.0), within_radius(half, ROWS, 1.0)):
        assert changed.dtype == torch.bfloat16
    torch.testing.assert_close(sequence_norms(half, ROWS), sequence_norms(half.float(), ROWS))


def test_noise_is_as_large_for_a_long_sequence_as_for_a_short_one() -> None:
    rows = torch.arange(2).repeat_interleave(torch.tensor([4000, 40]))
    noise = sequence_noise(torch.zeros(4040, 50), rows, 0.3, torch.Generator().manual_seed(0))
    for part, tokens in zip(noise.split([4000, 40]), (4000, 40), strict=True):
        assert float(part.abs().max()) == pytest.approx(0.3 / (50 * tokens) ** 0.5, rel=0.01)
        assert float(part.norm()) == pytest.approx(0.3 / 3**0.5, rel=0.05)
        assert abs(float(part.mean())) < 0.1 * float(part.std())
    again = sequence_noise(torch.zeros(4040, 50), rows, 0.3, torch.Generator().manual_seed(0))
    assert torch.equal(noise, again)
    assert not sequence_noise(torch.zeros(4040, 50), rows, 0.0).any()


def test_all_weights_together_move_by_the_radius() -> None:
    gradients = [vectors(0), None, vectors(1)[0]]
    found = weight_ascent(gradients, 0.05)
    flat = torch.cat([vectors(0).flatten(), vectors(1)[0]])
    expected = 0.05 * flat / flat.norm()
    assert found[1] is None
    torch.testing.assert_close(torch.cat([found[0].flatten(), found[2]]), expected)


def test_adaptive_steps_follow_a_rescaling_of_the_weights() -> None:
    """Kwon et al.'s reason: where w is multiplied by A and the gradient so divided, the step is multiplied too."""
    weights, gradients, factors = vectors(0), vectors(1), torch.tensor([4.0, 0.25, 8.0, 1.0, 2.0, 16.0])
    (one,) = weight_ascent([gradients], 0.5, [weights.abs()])
    (other,) = weight_ascent([gradients / factors], 0.5, [(weights * factors).abs()])
    torch.testing.assert_close(other, one * factors)
    square = weights.abs() ** 2
    torch.testing.assert_close(one, 0.5 * square * gradients / (weights.abs() * gradients).norm())


def test_relative_steps() -> None:
    weight, gradient = vectors(0).requires_grad_(), vectors(1)
    found = relative_ascent(weight, gradient, 0.01)
    assert not found.requires_grad
    assert float(found.norm()) == pytest.approx(0.01 * float(weight.detach().norm()))
    torch.testing.assert_close(found / found.norm(), gradient / gradient.norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_no_gradient_gives_no_step(dtype: torch.dtype) -> None:
    nothing = torch.zeros(12, 6, dtype=dtype)
    assert not sequence_ascent(nothing, ROWS, 1e30).any()
    assert not within_radius(nothing, ROWS, 1.0).any()
    assert not relative_ascent(torch.ones_like(nothing), nothing, 1e30).any()
    (step,) = weight_ascent([nothing], 1e30)
    assert step is not None
    assert not step.any()
    assert weight_ascent([None, None], 1.0) == [None, None]

"""Divergences against torch.distributions, and at hand values."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence

from bertlab.losses.divergence import answer_divergence, bernoulli, categorical, squared


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    one, other = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    return one, other


def test_categorical_is_torchs(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    p, q = (Categorical(logits=logits) for logits in pair)
    expected = (kl_divergence(p, q) + kl_divergence(q, p)) / 2
    torch.testing.assert_close(categorical(*pair), expected)


def test_categorical_at_a_hand_value() -> None:
    # (3/4, 1/4) and (1/4, 3/4): ½·2·(1/2)·ln 3
    one, other = torch.tensor([[math.log(3), 0.0]]), torch.tensor([[0.0, math.log(3)]])
    assert categorical(one, other).item() == pytest.approx(math.log(3) / 2)


def test_bernoulli_is_torchs(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    p, q = (Bernoulli(logits=logits) for logits in pair)
    expected = (kl_divergence(p, q) + kl_divergence(q, p)).mean(1) / 2
    torch.testing.assert_close(bernoulli(*pair), expected)


def test_squared_is_that_of_the_normal_distribution_of_the_squared_error() -> None:
    one, other = torch.tensor([[1.0], [4.0]]), torch.tensor([[3.0], [4.5]])
    assert squared(one, other).tolist() == [4.0, 0.25]
    p, q = (Normal(mean, math.sqrt(0.5)) for mean in (one, other))
    torch.testing.assert_close(squared(one, other), kl_divergence(p, q)[:, 0])


def test_labels_say_which(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    one, other = pair
    assert torch.equal(
        answer_divergence(one, other, torch.zeros(6, dtype=torch.int64)), categorical(one, other)
    )
    assert torch.equal(answer_divergence(one, other, torch.zeros(6, 4)), bernoulli(one, other))
    column = one[:, :1], other[:, :1]
    assert torch.equal(answer_divergence(*column, torch.zeros(6)), squared(*column))


@pytest.mark.parametrize("logits", [(6, 4, 2), (5, 4)])
def test_outputs_that_are_not_one_row_a_label(logits: tuple[int, ...]) -> None:
    outputs = torch.zeros(logits)
    with pytest.raises(ValueError, match="answers are compared row by row"):
        answer_divergence(outputs, outputs, torch.zeros(6))

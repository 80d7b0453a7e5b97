"""What LAMB scales, and what it does not; its update of a matrix is in test_papers.py."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from bertlab.optimizers.lamb import Lamb


def stepped(start: torch.Tensor, gradient: torch.Tensor, **arguments: Any) -> torch.Tensor:
    weight = nn.Parameter(start.clone())
    weight.grad = gradient
    Lamb([weight], lr=0.1, **arguments).step()
    return weight.detach() - start


def test_a_matrix_moves_by_a_share_of_its_length() -> None:
    start = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    for size in (1e-2, 1.0, 1e3):
        moved = stepped(start, size * torch.tensor([[1.0, -1.0], [2.0, 1.0]]), weight_decay=0.0)
        assert float(moved.norm()) == pytest.approx(0.1 * 5.0)


@pytest.mark.parametrize("start", [torch.tensor([3.0, 4.0]), torch.zeros(1, 2)], ids=["a vector", "zeros"])
def test_what_is_not_scaled_moves_as_under_adam(start: torch.Tensor) -> None:
    gradient = torch.tensor([5.0, -0.5]).reshape(start.shape)
    moved = stepped(start, gradient, weight_decay=0.0)
    torch.testing.assert_close(moved, -0.1 * gradient.sign(), rtol=1e-4, atol=0)


def test_a_matrix_without_an_update_stays() -> None:
    assert not stepped(torch.ones(2, 2), torch.zeros(2, 2), weight_decay=0.0).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, "Lamb.lr takes a number of 0 or more, got -1.0"),
        ({"eps": math.nan}, "Lamb.eps"),
        ({"betas": (0.9, 1.0)}, "Lamb.betas"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lamb([nn.Parameter(torch.zeros(2, 2))], **arguments)

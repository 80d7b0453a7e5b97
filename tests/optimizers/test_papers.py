"""Optimizers as their files set them, against the updates that their papers print."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.optimizers.fragments import FOLDER, maker, spec

STEPS = 8


def gradients() -> list[Tensor]:
    """Square, so that the eigenbasis of each side is unique; the fifth is a spike."""
    generator = torch.Generator().manual_seed(1)
    sizes = [1, 1, 1, 1, 50, 1, 1, 1]
    return [size * torch.randn(6, 6, generator=generator, dtype=torch.float64) for size in sizes]


def start() -> Tensor:
    return torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def lion(w: Tensor, lr: float, betas: tuple[float, float], weight_decay: float, **_: Any) -> Iterator[Tensor]:
    """arXiv:2302.06675, program 1."""
    m = torch.zeros_like(w)
    for g in gradients():
        c = betas[0] * m + (1 - betas[0]) * g
        m = betas[1] * m + (1 - betas[1]) * g
        w = w - lr * (c.sign() + weight_decay * w)
        yield w


def lamb(
    w: Tensor, lr: float, betas: tuple[float, float], eps: float, weight_decay: float, **_: Any
) -> Iterator[Tensor]:
    """arXiv:1904.00962, algorithm 2, with φ(z) = z."""
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t, g in enumerate(gradients(), start=1):
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
        r = m / (1 - betas[0] ** t) / ((v / (1 - betas[1] ** t)).sqrt() + eps) + weight_decay * w
        w = w - lr * w.norm() / r.norm() * r
        yield w


def stable_adamw(
    w: Tensor, lr: float, betas: tuple[float, float], eps: float, weight_decay: float, **_: Any
) -> Iterator[Tensor]:
    """arXiv:2304.13013, algorithm 2."""
    v, u = torch.zeros_like(w), torch.zeros_like(w)
    for t, g in enumerate(gradients(), start=1):
        beta1, beta2 = (beta * (1 - beta ** (t - 1)) / (1 - beta**t) for beta in betas)
        v, u = beta1 * v + (1 - beta1) * g, beta2 * u + (1 - beta2) * g * g
        rms = (g * g / u.clamp(min=eps**2)).mean().sqrt()
        rate = lr / max(1.0, float(rms))
        w = w - rate * weight_decay * w - rate * v / (u.sqrt() + eps)
        yield w


def adafactor(
    w: Tensor, lr: float, beta2_decay: float, eps: tuple[Any, float], d: float, **_: Any
) -> Iterator[Tensor]:
    """arXiv:1804.04235, algorithm 4, with section 7.1's decay and section 8's relative step."""
    rows, columns = torch.zeros(6, 1, dtype=w.dtype), torch.zeros(1, 6, dtype=w.dtype)
    for t, g in enumerate(gradients(), start=1):
        beta2 = 1 - t**beta2_decay
        rows = beta2 * rows + (1 - beta2) * (g * g).sum(1, keepdim=True)
        columns = beta2 * columns + (1 - beta2) * (g * g).sum(0, keepdim=True)
        u = g / (rows * columns / rows.sum()).sqrt()
        u = u / max(1.0, float(u.square().mean().sqrt()) / d)
        rate = max(eps[1], float(w.square().mean().sqrt())) * min(lr, 1 / math.sqrt(t))
        w = w - rate * u
        yield w


def soap(
    w: Tensor, lr: float, betas: tuple[float, float], eps: float, weight_decay: float, **_: Any
) -> Iterator[Tensor]:
    """arXiv:2409.11321, algorithm 3, before the basis of the first gradient is renewed; that gradient moves nothing."""
    first, *others = gradients()
    left, right = torch.linalg.eigh(first @ first.T)[1], torch.linalg.eigh(first.T @ first)[1]
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    yield w
    for t, g in enumerate(others, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * (left.T @ g @ right) ** 2
        # As the authors' code, ε is added before the correction of the bias.
        rate = lr * math.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)
        w = w - rate * left @ ((left.T @ m @ right) / (v.sqrt() + eps)) @ right.T
        w = w - lr * weight_decay * w
        yield w


def schedule_free(
    w: Tensor, lr: float, betas: tuple[float, float], eps: float, weight_decay: float, **_: Any
) -> Iterator[Tensor]:
    """arXiv:2405.15682, algorithm 1: the evaluation weights x."""
    z, x, v = w, w, torch.zeros_like(w)
    for t, g in enumerate(gradients(), start=1):
        y = (1 - betas[0]) * z + betas[0] * x
        v = betas[1] * v + (1 - betas[1]) * g * g
        z = z - lr * g / ((v / (1 - betas[1] ** t)).sqrt() + eps) - lr * weight_decay * y
        x = (1 - 1 / t) * x + z / t  # with a constant rate γ² / Σγ² is 1 / t
        yield x


@pytest.mark.parametrize(
    "paper", [lion, lamb, stable_adamw, adafactor, soap, schedule_free], ids=lambda paper: paper.__name__
)
def test_moves_as_its_paper_says(paper: Callable[..., Iterator[Tensor]]) -> None:
    path = FOLDER / f"{paper.__name__}.yaml"
    for size in (3.0, 0.1):  # LAMB and Adafactor step by a share of it
        weight = nn.Parameter(size * start())
        # Rates at which rounding is far below what is compared.
        optimizer: Any = maker(path, 100)([weight])
        arguments = {**spec(path)["init_args"], "lr": 100 * spec(path)["init_args"]["lr"]}
        for gradient, wanted in zip(gradients(), paper(size * start(), **arguments), strict=True):
            if hasattr(optimizer, "train"):
                optimizer.train()
            weight.grad = gradient.clone()
            optimizer.step()
            if hasattr(optimizer, "eval"):
                optimizer.eval()
            torch.testing.assert_close(weight.detach(), wanted, rtol=1e-5, atol=1e-7)
        assert (weight.detach() - size * start()).norm() > 1e-3 * size

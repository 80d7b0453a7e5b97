"""The arithmetic of gradient surgery: how much of each task's gradient is left when conflicts are projected away."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def surgery_weights(products: Tensor, orders: Sequence[Sequence[int]]) -> Tensor:
    """What PCGrad makes of K gradients, as a weight for each of them.

    Yu et al. 2020, arXiv:2001.06782, algorithm 1: of each task i a copy of its gradient meets the gradients of the
    others in random order, and where it conflicts with gⱼ (its product with gⱼ is negative) loses its part along gⱼ:
    gᵢ ← gᵢ − (gᵢ·gⱼ / gⱼ·gⱼ)·gⱼ. What is trained on is the sum of the copies.

    Every copy stays a combination Σⱼ cᵢⱼ·gⱼ of the K gradients, and its product with gⱼ is known from those of the
    gradients themselves. So the sum is Σⱼ wⱼ·gⱼ with wⱼ = Σᵢ cᵢⱼ, and no copy of a gradient is ever made.

    Args:
        products: (K, K) gᵢ·gⱼ of the gradients.
        orders: of each task, the others in the order in which it meets them.

    Returns:
        (K,) float64 weights on the CPU; all 1 where no two gradients conflict.

    >>> gradients = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    >>> surgery_weights(gradients @ gradients.T, [[1], [0]])  # g₁ becomes (½, ½), and g₂ (0, 1)
    tensor([2.0000, 1.5000], dtype=torch.float64)
    """
    known = products.detach().double().cpu()
    kept = torch.eye(len(known), dtype=torch.float64)
    for i, order in enumerate(orders):
        for j in order:
            along = float(kept[i] @ known[:, j])
            if along < 0:  # then gⱼ is not 0
                kept[i, j] -= along / float(known[j, j])
    return kept.sum(dim=0)


def random_orders(tasks: int, generator: torch.Generator) -> list[list[int]]:
    """Of each of K tasks, the others in random order.

    Args:
        tasks: K.
        generator: of the CPU.
    """
    return [
        [other for other in torch.randperm(tasks, generator=generator).tolist() if other != task]
        for task in range(tasks)
    ]

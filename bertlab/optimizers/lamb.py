"""Lamb: AdamW whose update of each matrix is as long as the rate times the matrix."""

# torch documents its operations on lists of tensors ("Foreach Operations") and names them with an underscore.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from bertlab.optimizers.group_optimizer import GroupOptimizer, gradients


class Lamb(GroupOptimizer):
    """You et al. 2020, arXiv:1904.00962, algorithm 2, with φ(z) = z, which trained BERT with batches of 32,768.

    r = m̂ / (√v̂ + ε) + decay·p, p ← p - lr·(‖p‖ / ‖r‖)·r. A matrix that is zero, or whose update is, moves by lr·r.
    As in the authors' code biases and normalisations, all that is a vector, are not scaled: they move by lr·r.

    Args:
        params: parameters or groups of them.
        lr: rate, 0 or more: by what share of its length a matrix moves.
        betas: β₁ and β₂, each in [0, 1).
        eps: ε, 0 or more.
        weight_decay: of the groups that do not have their own, 0 or more.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ) -> None:
        self.check(betas, lr=lr, eps=eps, weight_decay=weight_decay)
        defaults = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Update some parameters of a group, all of which have a gradient."""
        found, states = gradients(parameters), [self.state[parameter] for parameter in parameters]
        first, second = self.moments(parameters, "exp_avg"), self.moments(parameters, "exp_avg_sq")
        beta1, beta2 = group["betas"]
        for state in states:
            state["step"] = state.get("step", 0) + 1
        torch._foreach_lerp_(first, found, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, found, found, value=1 - beta2)
        updates = list(torch._foreach_div(second, [1 - beta2 ** state["step"] for state in states]))
        torch._foreach_sqrt_(updates)
        torch._foreach_add_(updates, group["eps"])
        torch._foreach_mul_(updates, [1 - beta1 ** state["step"] for state in states])
        torch._foreach_reciprocal_(updates)
        torch._foreach_mul_(updates, first)
        if group["weight_decay"]:
            torch._foreach_add_(updates, parameters, alpha=group["weight_decay"])
        _scale_matrices(updates, parameters)
        torch._foreach_add_(parameters, updates, alpha=-group["lr"])


def _scale_matrices(updates: list[Tensor], parameters: list[Tensor]) -> None:
    """Make the update of each matrix as long as the matrix."""
    chosen = [index for index, parameter in enumerate(parameters) if parameter.ndim > 1]
    if not chosen:
        return
    scaled = [updates[index] for index in chosen]
    lengths = torch._foreach_norm([parameters[index] for index in chosen])
    for update, length, other in zip(scaled, lengths, torch._foreach_norm(scaled), strict=True):
        # Without reading a number back from the device.
        update.mul_(torch.where((length > 0) & (other > 0), length / other, 1.0))

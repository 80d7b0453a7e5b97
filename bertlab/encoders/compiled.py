"""Layers of an encoder compiled by `torch.compile`, in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

import torch

from bertlab.encoders.packed_layer import PackedLayer


def compile_layers(layers: Sequence[PackedLayer], backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile what layers do before and after their attention, or all of it where the kernels of a GPU attend.

    Elsewhere the attention stays as it is: its runs of sequences differ from batch to batch, and each would be a
    program of its own. What is left depends on the numbers of tokens and sequences alone, which are symbols of the
    programs (`dynamic=True`). All layers share their programs. There is one for training and one for evaluation, one
    more where what lies below is frozen, or the layer itself, and where adapters are put in: torch guards all of that
    and compiles again. Their number does not grow with that of the layers.

    Names of parameters and modules stay; hooks on a layer are called as ever. What watches values within a layer by
    hooks on its parts sees them in training as something that the loss does not depend on.

    Args:
        layers: of a model.
        backend: of `torch.compile`.
    """
    for name in PackedLayer.tensor_methods:
        program = torch.compile(getattr(PackedLayer, name), dynamic=True, backend=backend)
        for layer in layers:
            # A method, and no closure: a copy of the layer has one that is bound to the copy.
            vars(layer)[name] = MethodType(program, layer)

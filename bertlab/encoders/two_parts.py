"""A BERT-type model in two parts: up to one of its layers, and from there on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from bertlab.encoders.packed_layer import PackedLayer
from bertlab.encoders.packing import Packing, pack
from bertlab.encoders.padding_free import (
    exact_products,
    position_offset,
    run_packed,
    some_ids,
    takes,
    without_filler,
)


class _LayerReachedError(Exception):
    """Takes what has come up to a layer out of the model."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


def run_lower(run: Callable[[], object], layer: nn.Module, packing: Packing) -> Tensor:
    """Run a model up to one of its layers: all that comes before it, however the model builds that.

    Args:
        run: runs the model.
        layer: the first one that is not run.
        packing: of the batch.

    Returns:
        (N, D) what the layer would have been given of the tokens.

    Raises:
        RuntimeError: the model has ended without running the layer.
    """

    def stop(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        raise _LayerReachedError(args[0])

    handle = layer.register_forward_pre_hook(stop)
    try:
        run()
    except _LayerReachedError as reached:
        return reached.hidden[0, : len(packing.rows)]
    finally:
        handle.remove()
    raise RuntimeError("the model has ended without running the layer at which it was to stop")


def packed_layers(model: nn.Module) -> list[PackedLayer]:
    """The layers of a BERT-type model, the lowest first; none of another model."""
    return [module for module in model.modules() if isinstance(module, PackedLayer)]


def run_upper(layers: Sequence[PackedLayer], hidden: Tensor, packing: Packing) -> Tensor:
    """Run layers on packed tokens.

    Args:
        layers: from the lowest that is to be run to the last of the model.
        hidden: (N, D) what the layer below them gave.
        packing: of the batch.

    Returns:
        (N, D); of the tokens that the packing asks for, if it does.
    """
    states = hidden[None]
    for layer in layers:
        states = layer(states, packing=packing)
    return without_filler(states.squeeze(0), packing)


@torch.no_grad()
def can_be_divided(model: PreTrainedModel) -> bool:
    """Whether the two parts of a model give what the whole of it gives, found out by trying.

    Args:
        model: in evaluation mode.
    """
    layers = packed_layers(model)
    if not layers:
        return False
    lengths = torch.tensor([5, 3])
    packing = pack(lengths, torch.device("cpu"), max_waste=0.0)
    ids = some_ids(model, int(lengths.sum()))
    types = torch.zeros_like(ids) if takes(model, "token_type_ids") else None

    def run() -> Tensor:
        return run_packed(model, ids, types, packing.positions + position_offset(model), packing)

    with exact_products():
        whole, middle = run(), len(layers) // 2
        parts = run_upper(layers[middle:], run_lower(run, layers[middle], packing), packing)
    return torch.equal(parts, whole)

"""PackedLayer: a layer of BERT on packed tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertlab.encoders import flash_attention as flash
from bertlab.encoders.activated_linear import activated_linear
from bertlab.encoders.dropout import dropout_add
from bertlab.encoders.packed_attention import first_token_attention, packed_attention
from bertlab.encoders.packing import Packing
from bertlab.row_multiple import product_dtype


class PackedLayer(nn.Module):
    """Takes the place of a layer of BERT, RoBERTa, ELECTRA and others that are built alike.

    It holds the parts of the layer that it replaces under the same names, so that weights are saved and loaded
    as transformers does. Query, key and value are one product instead of three; dropout, the residual and the
    cast between precisions take one pass. The last layer can be asked for the first tokens alone: then only
    keys and values are computed for the others. Asked for some tokens, it leaves out for the others all that
    follows the attention, which is most of its arithmetic.

    Args:
        layer: the layer of transformers.
        last: whether no layer follows.
    """

    #: methods from tensors to tensors, which know nothing of the packing: what can be compiled.
    tensor_methods: ClassVar[tuple[str, ...]] = ("project", "conclude", "in_one")

    attention: Any
    intermediate: Any
    output: Any

    def __init__(self, layer: nn.Module, last: bool) -> None:
        super().__init__()
        self.attention = layer.attention
        self.intermediate = layer.intermediate
        self.output = layer.output
        self.last = last
        self.train(layer.training)

    @staticmethod
    def fits(layer: nn.Module) -> bool:
        """Whether a layer is built as BERT's: the names of its parts say so, and nothing is left over."""
        parts = {name for name, _ in layer.named_parameters()}
        dense = (
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
        )
        norms = ("attention.output.LayerNorm", "output.LayerNorm")
        names = (*dense, *norms, "intermediate.dense", "output.dense")
        return parts == {f"{name}.{kind}" for name in names for kind in ("weight", "bias")}

    def forward(self, hidden_states: Tensor, *_: Any, packing: Packing, **__: Any) -> Tensor:
        """(1, N, D) to (1, N, D); of the last layer (1, S, D) or (1, Q, D) if the packing asks for these tokens.

        Filler that the packing asks for is put behind the tokens by the first layer that is run, and stays.
        """
        hidden = hidden_states.squeeze(0)  # an index would be a copy in the backward pass
        if packing.filler and len(hidden) == len(packing.rows):
            hidden = functional.pad(hidden, (0, 0, 0, packing.filler))
        if self.last and packing.first_only:
            return self._first_only(hidden, packing)[None]
        needed = packing.needed if self.last else None
        if needed is None and not packing.filler and self._takes_flash(hidden):
            return self.in_one(hidden_states, packing.offsets32, packing.longest)
        context = packed_attention(self.project(hidden), packing, self._scaling, self._dropout)
        if needed is not None:
            hidden, context = (part.index_select(0, needed) for part in (hidden, context))
        return self.conclude(context, hidden)[None]

    @property
    def _scaling(self) -> float:
        """Factor of the scores."""
        return self.attention.self.attention_head_size**-0.5

    @property
    def _dropout(self) -> float:
        """Of the attention probabilities."""
        return self.attention.self.dropout.p if self.training else 0.0

    def _takes_flash(self, hidden: Tensor) -> bool:
        """Whether there are kernels for what `project` gives.

        What stands in the place of a linear layer may give another type, which `packed_attention` looks at.
        """
        inner = self.attention.self
        if not flash.takes(hidden.device, product_dtype(hidden), inner.attention_head_size):
            return False
        return all(_is_plain(linear) for linear in (inner.query, inner.key, inner.value))

    def _first_only(self, hidden: Tensor, packing: Packing) -> Tensor:
        first = hidden.index_select(0, packing.starts)
        query = self.project(first, "query").squeeze(1)
        kv = self.project(hidden, "key", "value")
        context = first_token_attention(query, kv, packing, self._scaling, self._dropout)
        return self.conclude(context, first)

    def in_one(self, hidden_states: Tensor, offsets: Tensor, longest: int) -> Tensor:
        """All of the layer by FlashAttention's kernels, which can be compiled as a whole: (1, N, D) to (1, N, D).

        What goes in and comes out is no view: a program of torch is made for one relation of a view to its base.
        """
        # Those of the class: what is compiled by itself cannot be called within what is compiled.
        qkv = PackedLayer.project(self, hidden_states.squeeze(0))
        context = flash.flash_attention(qkv, offsets, longest, self._scaling, self._dropout)
        return PackedLayer.conclude(self, context[None], hidden_states)

    def project(self, hidden: Tensor, *parts: str) -> Tensor:
        """Queries, keys or values, as named, or all of them: (N, D) to (N, number of names, H, E)."""
        inner = self.attention.self
        linears = [getattr(inner, part) for part in parts or ("query", "key", "value")]
        return _project(hidden, linears, inner.num_attention_heads)

    def conclude(self, context: Tensor, hidden: Tensor) -> Tensor:
        """All that follows the attention: its (…, N, H, E) and the layer's (…, N, D) input to (…, N, D)."""
        part = self.attention.output
        attended = _residual(part, part.dense(context.flatten(-2)), hidden)
        return _residual(self.output, self._feed_forward(attended), attended)

    def _feed_forward(self, attended: Tensor) -> Tensor:
        """Both dense layers with the activation function between them."""
        activation = getattr(self.intermediate, "intermediate_act_fn", None)
        dense, compiling = self.output.dense, torch.compiler.is_compiling()
        plain = _is_plain(dense) and _is_bare(self.intermediate)
        if activation is None or compiling or attended.device.type != "cpu" or not plain:
            return dense(self.intermediate(attended))
        return activated_linear(self.intermediate.dense(attended), activation, dense.weight, dense.bias)

    def skip(self, hidden_states: Tensor, *_: Any, packing: Packing, **__: Any) -> Tensor:
        """What `forward` gives if the layer is the identity."""
        if self.last and packing.first_only:
            return hidden_states.index_select(1, packing.starts)
        if self.last and packing.needed is not None:
            return hidden_states.index_select(1, packing.needed)
        return hidden_states


def _project(hidden: Tensor, linears: Sequence[nn.Module], heads: int) -> Tensor:
    """Several linear layers: (N, D) to (N, number of layers, H, E); in one product, if they are that and no more.

    What stands in the place of a linear layer (an adapter of peft, a quantised layer), or has hooks, is called.
    """
    plain = [linear for linear in linears if _is_plain(linear)]
    if len(plain) < len(linears):
        projected = [linear(hidden).unflatten(1, (heads, -1)) for linear in linears]
        return torch.stack(projected, 1)
    weight = torch.cat([linear.weight for linear in plain])
    bias = torch.cat([linear.bias for linear in plain])
    return functional.linear(hidden, weight, bias).unflatten(1, (len(linears), heads, -1))


def _is_plain(linear: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether a call does nothing but the product with its weight."""
    return type(linear) is nn.Linear and _is_bare(linear)


def _is_bare(module: nn.Module) -> bool:
    """Whether a call does nothing but the `forward` of the module's class."""
    hooks = module._forward_hooks or module._forward_pre_hooks  # pyright: ignore[reportPrivateUsage]
    return "forward" not in vars(module) and not hooks


def _residual(output: Any, dense: Tensor, residual: Tensor) -> Tensor:
    """Dropout, residual and normalisation after a dense layer."""
    return output.LayerNorm(dropout_add(dense, residual, output.dropout.p, output.training))


def swap_layers(model: nn.Module) -> list[nn.Module]:
    """Put packed layers in the place of those of a BERT-type model.

    Returns:
        The layers that were replaced; none if they are not built as BERT's.
    """
    layers = _layers(model)
    if layers is None or not all(PackedLayer.fits(layer) for layer in layers):
        return []
    replaced = list(layers)
    for number, layer in enumerate(replaced):
        layers[number] = PackedLayer(layer, last=number == len(replaced) - 1)
    return replaced


def restore_layers(model: nn.Module, replaced: Sequence[nn.Module]) -> None:
    """Undo `swap_layers`."""
    layers = _layers(model)
    assert layers is not None
    for number, layer in enumerate(replaced):
        layers[number] = layer


def _layers(model: nn.Module) -> nn.ModuleList | None:
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return lists[0] if len(lists) == 1 else None

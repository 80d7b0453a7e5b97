"""The gradients of single sequences from one pass over a packed batch, without running any of them alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertlab.losses.with_gradients import gradients_of
from bertlab.row_multiple import BFLOAT16_CPU

#: Layers whose gradients are known from what goes in and the gradient of what comes out.
LAYERS = (nn.Linear, nn.LayerNorm, nn.Embedding)

#: Layers that let sequences of a batch see each other.
MIXING = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class _Call(NamedTuple):
    name: str
    layer: Any
    taken: Tensor
    given: Tensor


class SequenceGradients:
    """Watches the layers of a model during one pass; then tells the norms of each sequence's gradients, and sums.

    A packed batch has a row for each token, or for each sequence, wherever a layer works, and no row sees another
    sequence. So the gradient of a sequence for a weight is the sum over its rows of products of what went in and the
    gradient of what came out, and its norm follows from the products of these among themselves (Goodfellow 2015,
    arXiv:1510.01799; for sequences Li et al. 2022, arXiv:2110.05679, section 4); the sum of clipped gradients is one
    product with factors in it (Bu et al. 2023, arXiv:2210.00038). No gradient of a single sequence is ever stored:
    memory is that of activations and their gradients, and a square of the longest length for each sequence.

    Args:
        model: whose layers that are trained are of `LAYERS`.
        lengths: (S,) tokens of each sequence of the packed batch, on the CPU.

    Raises:
        ValueError: parameters that are trained are in other modules, or in two; a layer mixes sequences.

    Examples:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> x = torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, 1.0]])
        >>> with SequenceGradients(layer, torch.tensor([1, 2])) as seen:
        ...     loss = layer(x).sum()
        >>> _ = seen.backward(loss)
        >>> seen.norms()
        tensor([5., 2.])
        >>> seen.sums(torch.tensor([0.2, 1.0]))[layer.weight]
        tensor([[0.6000, 2.8000]])
    """

    def __init__(self, model: nn.Module, lengths: Tensor) -> None:
        self._layers = _trained_layers(model)
        self._tokens, self._sequences = int(lengths.sum()), len(lengths)
        starts = lengths.cumsum(0) - lengths
        self._rows = torch.arange(len(lengths)).repeat_interleave(lengths)
        self._places = torch.arange(self._tokens) - starts[self._rows]
        self._longest = int(lengths.max()) if len(lengths) else 0
        self._calls: list[_Call] = []
        self._used: dict[str, tuple[_Call, Tensor]] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        """Watch."""
        self._handles = [
            layer.register_forward_hook(self._hook(name)) for name, layer in self._layers.items()
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Watch no longer."""
        for handle in self._handles:
            handle.remove()

    def backward(self, loss: Tensor, also: Sequence[Tensor] = ()) -> list[Tensor | None]:
        """Find the gradients of what the layers gave; the graph is freed.

        Args:
            loss: the sum of the losses of the sequences; each depends on its own sequence alone.
            also: other tensors whose gradients are wanted.

        Returns:
            Those of `also`.

        Raises:
            ValueError: the loss depends on two calls of one layer.
        """
        found = gradients_of(loss, [*(call.given for call in self._calls), *also])
        for call, gradient in zip(self._calls, found, strict=False):
            if gradient is None:  # the loss does not depend on it
                continue
            if call.name in self._used:
                raise ValueError(
                    f"{call.name} is used more than once in a pass, so that gradients of single sequences are not "
                    "known: take an encoder whose layers share no weights"
                )
            self._used[call.name] = call, gradient
        return found[len(self._calls) :]

    def norms(self) -> Tensor:
        """(S,) norms of the gradients of each sequence, over all parameters that are trained, in float32."""
        squares = torch.zeros(self._sequences)
        for call, gradient in self._used.values():
            squares = squares.to(gradient.device)
            squares += _squares(
                call.layer, self._apart(call.taken, call.given), self._apart(gradient, call.given)
            )
        return squares.clamp(min=0).sqrt()

    def sums(self, factors: Tensor) -> dict[Tensor, Tensor]:
        """The sum of the gradients of all sequences, each times its factor.

        Args:
            factors: (S,) of each sequence.

        Returns:
            Of each parameter that is trained and had a part in the pass, in float32.
        """
        found: dict[Tensor, Tensor] = {}
        for call, gradient in self._used.values():
            weighed = self._apart(gradient, call.given) * factors.to(gradient.device)[:, None, None]
            found |= _sums(call.layer, self._apart(call.taken, call.given), weighed)
        return found

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def keep(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            self._calls.append(_Call(name, layer, args[0].detach(), output))

        return keep

    def _apart(self, values: Tensor, given: Tensor) -> Tensor:
        """(S, T, D) of values with a row for each token, or (S, 1, D) of such with one for each sequence.

        Ids, which are (S, T) or (S, 1), are -1 where there is nothing; other values are 0 there.
        """
        shape = given.shape[:-1]
        count = shape.numel()
        flat = values.reshape(count, -1) if values.is_floating_point() else values.reshape(count)
        flat = flat.float() if values.is_floating_point() else flat
        packed = len(shape) == 1 or shape[0] == 1
        if packed and self._tokens <= count < self._tokens + BFLOAT16_CPU:  # which may have filler behind it
            nothing = 0.0 if values.is_floating_point() else -1
            apart = flat.new_full((self._sequences, self._longest, *flat.shape[1:]), nothing)
            apart[self._rows.to(flat.device), self._places.to(flat.device)] = flat[: self._tokens]
            return apart
        if count == self._sequences and shape[0] == count:
            return flat[:, None]
        raise ValueError(
            f"a layer works on {tuple(shape)} rows, which are neither the {self._tokens} tokens of a packed batch nor "
            f"its {self._sequences} sequences: gradients of single sequences take an encoder without padding "
            "(encoder.padding_free)"
        )


def _trained_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that hold a parameter that is trained, under their names."""
    found: dict[str, nn.Module] = {}
    holders: dict[int, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, MIXING):
            raise ValueError(
                f"{name} is a {type(module).__name__}, in which sequences of a batch see each other, so that none has "
                "a gradient of its own: take a model without"
            )
        own = [p for p in module.parameters(recurse=False) if p.requires_grad]
        if not own:
            continue
        kind = getattr(module, "computes", type(module))  # a subclass may say whose results it gives
        if kind not in LAYERS:
            raise ValueError(
                f"{name or 'the model'} is a {type(module).__name__} with trained parameters of its own; gradients of "
                f"single sequences are known of {', '.join(kind.__name__ for kind in LAYERS)} alone: freeze it"
            )
        for parameter in own:
            if id(parameter) in holders:
                raise ValueError(
                    f"{holders[id(parameter)]} and {name} share a trained parameter, so that gradients of single "
                    "sequences are not known: freeze it"
                )
            holders[id(parameter)] = name
        found[name] = module
    return found


def _squares(layer: Any, taken: Tensor, gradient: Tensor) -> Tensor:
    """(S,) squared norms of the gradients of a layer's trained parameters."""
    squares = gradient.new_zeros(len(gradient))
    if layer.weight is not None and layer.weight.requires_grad:
        if isinstance(layer, nn.LayerNorm):
            squares += (_normalised(layer, taken) * gradient).sum(1).square().sum(1)
        else:
            alike = (
                taken[:, :, None] == taken[:, None, :]
                if isinstance(layer, nn.Embedding)
                else taken @ taken.transpose(1, 2)
            )
            own = _of_rows_with_a_gradient(layer, taken, gradient)
            squares += (alike * (own @ own.transpose(1, 2))).sum((1, 2))
    bias: nn.Parameter | None = getattr(layer, "bias", None)
    if bias is not None and bias.requires_grad:
        squares += gradient.sum(1).square().sum(1)
    return squares


def _sums(layer: Any, taken: Tensor, gradient: Tensor) -> dict[Tensor, Tensor]:
    """Sums over sequences of the gradients of a layer's trained parameters."""
    found: dict[Tensor, Tensor] = {}
    rows = gradient.flatten(0, 1)
    if layer.weight is not None and layer.weight.requires_grad:
        if isinstance(layer, nn.LayerNorm):
            found[layer.weight] = (_normalised(layer, taken).flatten(0, 1) * rows).sum(0)
        elif isinstance(layer, nn.Embedding):
            own = _of_rows_with_a_gradient(layer, taken, gradient).flatten(0, 1)
            zero = torch.zeros_like(layer.weight, dtype=own.dtype)
            found[layer.weight] = zero.index_add_(0, taken.flatten().clamp(min=0), own)
        else:
            found[layer.weight] = rows.T @ taken.flatten(0, 1)
    bias: nn.Parameter | None = getattr(layer, "bias", None)
    if bias is not None and bias.requires_grad:
        found[bias] = rows.sum(0)
    return found


def _normalised(layer: nn.LayerNorm, taken: Tensor) -> Tensor:
    return functional.layer_norm(taken, layer.normalized_shape, eps=layer.eps)


def _of_rows_with_a_gradient(layer: Any, taken: Tensor, gradient: Tensor) -> Tensor:
    """The gradient without that of an embedding's padding, whose row is never trained."""
    padding = getattr(layer, "padding_idx", None)
    if padding is None:
        return gradient
    return gradient.masked_fill((taken == padding)[:, :, None], 0.0)

"""Cross entropy over a large vocabulary from the states below the decoder, in little memory.

A decoder of 30,522 word pieces makes logits that are larger than all else in a step, and a plain cross entropy keeps
them, their softmax and their gradient. Here a few rows at a time are taken from the state to the gradient: nothing of
size (M, V) exists. The gradient is computed with the loss, so nothing is computed twice (Hsu et al. 2024,
arXiv:2410.10989, section 3.2).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Logits of a chunk. On a CPU 16 MB, which the allocator of glibc keeps for the next chunk (above 32 MB every chunk
#: is mapped anew, several times slower); an accelerator wants large products.
BUFFER_CPU = 2**22
BUFFER_ELSEWHERE = 2**27


class Predictions(NamedTuple):
    """What a decoder says of M rows.

    Attributes:
        losses: (M,) float32 cross entropy, in nats.
        predicted: (M,) int64 most probable class.
        drawn: (M,) int64 class drawn from the softmax; (0,) where none was asked for.
    """

    losses: Tensor
    predicted: Tensor
    drawn: Tensor


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, uniform: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sum of the cross entropies of `hidden · weightᵀ + bias`, differentiable.

    Products follow autocast, where it is on; the softmax and all sums are in float32 or better.

    Args:
        hidden: (M, E); M may be 0.
        weight: (V, E).
        bias: (V,).
        labels: (M,) int64.
        uniform: (M,) in [0, 1), for a class to be drawn of each row's softmax by inversion; None: none is drawn.

    Returns:
        The sum, a scalar in float32 (float64 for such input), 0 for no rows; and the drawn classes (M,) int64,
        (0,) where none was asked for, which are not differentiable.

    Raises:
        ValueError: shapes do not match.
    """
    _check(hidden, weight, bias, labels)
    total, drawn = _LinearCrossEntropy.apply(hidden, weight, bias, labels, uniform)
    return total, drawn


@torch.no_grad()
def linear_predictions(
    hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, uniform: Tensor | None = None
) -> Predictions:
    """Losses and most probable classes of `hidden · weightᵀ + bias`, row by row, without a gradient.

    Arguments as of `linear_cross_entropy`.
    """
    _check(hidden, weight, bias, labels)
    found = [
        Predictions(chunk.losses, chunk.predicted, chunk.drawn)
        for chunk in _chunks(hidden, weight, bias, labels, uniform)
    ]
    if not found:
        nothing = labels.new_empty(0)
        return Predictions(hidden.new_zeros(0, dtype=torch.float32), nothing, nothing)
    return Predictions(*(torch.cat(parts) for parts in zip(*found, strict=True)))


class _Chunk(NamedTuple):
    """Some rows: their place, input, softmax (in a buffer that the next chunk overwrites), and predictions."""

    place: slice
    hidden: Tensor
    probabilities: Tensor
    losses: Tensor
    predicted: Tensor
    drawn: Tensor


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, uniform: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        precise = torch.promote_types(hidden.dtype, torch.float32)
        total, drawn = torch.zeros((), dtype=precise, device=hidden.device), [labels.new_empty(0)]
        of_hidden, of_weight, of_bias = (
            torch.zeros_like(tensor) if needed else None
            for tensor, needed in zip((hidden, weight, bias), ctx.needs_input_grad, strict=False)
        )
        for chunk in _chunks(hidden, weight, bias, labels, uniform):
            total += chunk.losses.sum()
            drawn.append(chunk.drawn)
            gradient = chunk.probabilities
            gradient.scatter_add_(
                1, labels[chunk.place, None], gradient.new_full((len(chunk.losses), 1), -1.0)
            )
            if of_bias is not None:
                of_bias += gradient.sum(0)
            gradient = gradient.to(chunk.hidden.dtype)
            if of_hidden is not None:
                of_hidden[chunk.place] = gradient @ weight.to(gradient.dtype)
            if of_weight is not None:
                _add_product(of_weight, gradient, chunk.hidden)
        ctx.save_for_backward(of_hidden, of_weight, of_bias)
        classes = torch.cat(drawn)
        ctx.mark_non_differentiable(classes)
        return total, classes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        kept = ctx.saved_tensors
        return *(None if part is None else part * grads[0].to(part.dtype) for part in kept), None, None


def _add_product(total: Tensor, gradient: Tensor, hidden: Tensor) -> None:
    """`total += gradientᵀ · hidden`, in the precision of `total`."""
    if total.dtype == gradient.dtype:
        total.addmm_(gradient.t(), hidden)
    else:
        total += gradient.t() @ hidden


def _chunks(hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, uniform: Tensor | None) -> Any:
    """The rows in chunks, with their softmax."""
    device, rows, size = hidden.device.type, len(hidden), len(weight)
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    most = max(1, (BUFFER_CPU if device == "cpu" else BUFFER_ELSEWHERE) // size)
    count = -(-rows // most)
    with torch.autocast(device, enabled=False):
        matrix, offset = weight.to(dtype), bias.to(dtype)
        for part in torch.arange(rows).tensor_split(count) if count else ():
            place = slice(int(part[0]), int(part[-1]) + 1)
            inputs = hidden[place].to(dtype)
            yield _predict(place, inputs, torch.addmm(offset, inputs, matrix.t()), labels, uniform)


def _predict(place: slice, inputs: Tensor, logits: Tensor, labels: Tensor, uniform: Tensor | None) -> _Chunk:
    precise = torch.promote_types(logits.dtype, torch.float32)
    highest, predicted = logits.max(1)
    probabilities = logits.softmax(1, dtype=precise)
    # The share of the most probable class is at least 1/V, so its logarithm loses nothing.
    of_highest = probabilities.gather(1, predicted[:, None]).squeeze(1).log()
    of_label = logits.gather(1, labels[place, None]).squeeze(1)
    losses = (highest.to(precise) - of_label.to(precise)) - of_highest
    drawn = predicted[:0] if uniform is None else draw(probabilities, uniform[place])
    return _Chunk(place, inputs, probabilities, losses, predicted, drawn)


def draw(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Draw a class from each row by inversion of its distribution.

    One random number a row; `torch.multinomial` draws one for each class, which on a CPU takes longer than the
    softmax.

    Args:
        probabilities: (M, V), non-negative, rows of any positive sum.
        uniform: (M,) in [0, 1).

    Returns:
        (M,) int64.

    >>> draw(torch.tensor([[0.25, 0.5, 0.25]] * 3), torch.tensor([0.2, 0.3, 0.99]))
    tensor([0, 1, 2])
    """
    sums = probabilities.cumsum(1, dtype=torch.promote_types(probabilities.dtype, torch.float32))
    wanted = uniform[:, None].to(sums) * sums[:, -1:]
    return torch.searchsorted(sums, wanted, right=True).squeeze(1).clamp_(max=probabilities.shape[1] - 1)


def _check(hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> None:
    rows, size = labels.shape, weight.shape[0]
    if (
        hidden.dim() != 2
        or hidden.shape[:1] != rows
        or hidden.shape[1:] != weight.shape[1:]
        or bias.shape != (size,)
    ):
        raise ValueError(
            "shapes are hidden (M, E), weight (V, E), bias (V,), labels (M,); got "
            f"{tuple(hidden.shape)}, {tuple(weight.shape)}, {tuple(bias.shape)}, {tuple(labels.shape)}"
        )

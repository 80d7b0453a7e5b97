"""Cross entropy over a large vocabulary from the states below the decoder, in little memory.

A decoder of 30,522 word pieces makes logits that are larger than all else in a step, and a plain cross entropy keeps
them, their softmax and their gradient in float32. Here a few rows at a time are taken from the state to the gradient by
the logits, which is computed with the loss, so nothing is computed twice (Hsu et al. 2024, arXiv:2410.10989, section
3.2). One copy of it is kept, in the precision of the products, and the gradient by the weights is made of it in one go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from bertlab.row_multiple import pad_rows, product_dtype, row_multiple

#: Logits of a chunk. On a CPU 16 MB, which the allocator of glibc keeps for the next chunk (above 32 MB every chunk
#: is mapped anew, several times slower); an accelerator wants large products.
BUFFER_CPU = 2**22
BUFFER_ELSEWHERE = 2**27
#: Of classes.
MULTIPLE_CPU = 1
MULTIPLE_ELSEWHERE = 64


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
    rows, decoder = len(hidden), _decoder(hidden, weight, bias)
    nothing = labels.new_empty(0)
    found = [Predictions(hidden.new_zeros(0, dtype=torch.float32), nothing, nothing)]
    multiple = row_multiple(decoder.weight)
    hidden, labels = pad_rows(hidden, multiple), pad_rows(labels, multiple)
    for place, logits, probabilities, losses in _chunks(hidden, decoder, labels):
        real = rows - place.start  # those behind are filler
        drawn = nothing if uniform is None else draw(probabilities[:real, : len(weight)], uniform[place])
        found.append(Predictions(losses[:real], logits[:real].argmax(1), drawn))
    return Predictions(*(torch.cat(parts) for parts in zip(*found, strict=True)))


class _Decoder(NamedTuple):
    """A decoder in the precision of its products: (V, E) and (V,), or more where classes are put behind."""

    weight: Tensor
    bias: Tensor


class _Chunk(NamedTuple):
    """Some rows: their place, logits, softmax in float32 or better, and losses."""

    place: slice
    logits: Tensor
    probabilities: Tensor
    losses: Tensor


class _LinearCrossEntropy(torch.autograd.Function):
    """Keeps the gradient by the logits, in the precision of the products, until the backward pass.

    There the gradient by the weights, which is large, is made with the factor in it and handed on as it is.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, uniform: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        decoder, rows, size = _decoder(hidden, weight, bias), len(hidden), len(weight)
        multiple = row_multiple(decoder.weight)
        hidden, labels = pad_rows(hidden, multiple), pad_rows(labels, multiple)
        of_logits = decoder.weight.new_empty(len(hidden), len(decoder.weight))
        precise = torch.promote_types(hidden.dtype, torch.float32)
        total, of_bias = (
            torch.zeros(shape, dtype=precise, device=hidden.device) for shape in ((), len(decoder.weight))
        )
        drawn = [labels.new_empty(0)]
        for place, _, probabilities, losses in _chunks(hidden, decoder, labels, of_logits):
            real = rows - place.start  # those behind are filler
            total += losses[:real].sum()
            if uniform is not None:
                drawn.append(draw(probabilities[:real, :size], uniform[place]))
            probabilities.scatter_add_(1, labels[place, None], -torch.ones_like(losses)[:, None])
            probabilities[real:] = 0
            of_bias += probabilities.sum(0)
            if probabilities.dtype != of_logits.dtype:
                of_logits[place] = probabilities
        with torch.autocast(hidden.device.type, enabled=False):
            of_hidden = (of_logits @ decoder.weight)[:rows]
        ctx.save_for_backward(hidden, of_logits, of_hidden, of_bias[:size])
        ctx.size, ctx.weight_dtype, ctx.bias_dtype = size, weight.dtype, bias.dtype
        classes = torch.cat(drawn)
        ctx.mark_non_differentiable(classes)
        return total, classes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        hidden, of_logits, of_hidden, of_bias = ctx.saved_tensors
        factor, needed = grads[0], ctx.needs_input_grad
        return (
            (of_hidden * factor).to(hidden.dtype) if needed[0] else None,
            (of_logits.t() @ (hidden * factor).to(of_logits.dtype))[: ctx.size].to(ctx.weight_dtype)
            if needed[1]
            else None,
            (of_bias * factor).to(ctx.bias_dtype) if needed[2] else None,
            None,
            None,
        )


def _decoder(hidden: Tensor, weight: Tensor, bias: Tensor) -> _Decoder:
    """The decoder in the precision of autocast where it is on, else in that of the states.

    On an accelerator with classes behind it that are never predicted, so that their number is a multiple of 64: for
    30,522 classes an H200 took kernels of an older generation.
    """
    dtype = product_dtype(hidden)
    multiple = MULTIPLE_CPU if hidden.device.type == "cpu" else MULTIPLE_ELSEWHERE
    padded = pad_rows(weight.detach().to(dtype), multiple)
    never = (0, len(padded) - len(weight))
    return _Decoder(padded, functional.pad(bias.detach().to(dtype), never, value=-torch.inf))


def _chunks(
    hidden: Tensor, decoder: _Decoder, labels: Tensor, room: Tensor | None = None
) -> Iterator[_Chunk]:
    """The rows a few at a time.

    Args:
        hidden: (M, E).
        decoder: of them.
        labels: (M,).
        room: (M, V), which takes the softmax if it is precise enough; None: none is kept.
    """
    rows, (size, _) = len(hidden), decoder.weight.shape
    most = (BUFFER_CPU if hidden.device.type == "cpu" else BUFFER_ELSEWHERE) // size
    multiple = row_multiple(decoder.weight)
    most = max(multiple, most - most % multiple)
    precise = torch.promote_types(decoder.weight.dtype, torch.float32)
    for start in range(0, rows, most):
        place = slice(start, min(start + most, rows))
        with torch.autocast(hidden.device.type, enabled=False):
            inputs = hidden[place].to(decoder.weight.dtype)
            logits = torch.addmm(decoder.bias, inputs, decoder.weight.t())
        if room is not None and room.dtype == precise:
            probabilities = torch.softmax(logits, 1, out=room[place])
        else:
            probabilities = logits.softmax(1, dtype=precise)
        of_label = logits.gather(1, labels[place, None]).squeeze(1).to(precise)
        # The share of the most probable class is at least 1/V, so its logarithm loses nothing.
        losses = (logits.amax(1).to(precise) - of_label) - probabilities.amax(1).log()
        yield _Chunk(place, logits, probabilities, losses)


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

"""Attention over packed sequences: each token sees the tokens of its own sequence and no other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from bertlab.encoders import flash_attention as flash
from bertlab.encoders.dropout import apply_mask, draw_mask, dropout, kept_share
from bertlab.encoders.packing import Group, Packing

# Up to this length plain products cost less on a CPU than scaled_dot_product_attention, whose kernels are made for
# long sequences; with dropout it takes a path that is always slower.
PLAIN_LONGEST = 64
PLAIN_LONGEST_TRAINED = 128  # the backward of scaled_dot_product_attention costs more than its forward


def packed_attention(
    qkv: Tensor, packing: Packing, scaling: float, p: float = 0.0, window: int | None = None
) -> Tensor:
    """Scaled dot-product attention within each sequence.

    Args:
        qkv: (N, 3, H, E): query, key and value of H heads of size E, and of filler behind them.
        packing: of the batch.
        scaling: factor of the scores.
        p: dropout of the attention probabilities, in [0, 1).
        window: a token sees those less than this many places away; None: all of its sequence.

    Returns:
        (N, H, E), zero for filler.
    """
    plain = 0
    if qkv.device.type == "cpu":
        plain = PLAIN_LONGEST_TRAINED if qkv.requires_grad else PLAIN_LONGEST
        plain = packing.longest if p > 0 else plain
    if packing.longest <= plain:
        return _PlainAttention.apply(qkv, packing, scaling, p, window)
    if flash.takes(qkv.device, qkv.dtype, qkv.shape[-1]):
        tokens = _real(qkv, packing)
        context = flash.flash_attention(tokens, packing.offsets32, packing.longest, scaling, p, window)
        return _with_filler(context, len(qkv))
    laid_out = _laid_out(qkv, packing)
    outputs: list[Tensor] = []
    for group in packing.layout.groups:
        query, key, value = _by_head(laid_out[group.places], group)
        bias = packing.bias(group, window, query.dtype)
        context = functional.scaled_dot_product_attention(query, key, value, bias, p, scale=scaling)
        outputs.append(context.transpose(1, 2).flatten(0, 1))
    output = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
    output = output if packing.layout.keep is None else output.index_select(0, packing.layout.keep)
    return _with_filler(output, len(qkv))


def _with_filler(tokens: Tensor, count: int) -> Tensor:
    """(N, H, E) with rows of zeros behind them, (count, H, E)."""
    filler = count - len(tokens)
    return functional.pad(tokens, (0, 0, 0, 0, 0, filler)) if filler else tokens


def first_token_attention(query: Tensor, kv: Tensor, packing: Packing, scaling: float, p: float) -> Tensor:
    """What the first token of each sequence gathers from its sequence.

    Args:
        query: (S, H, E) of the first tokens.
        kv: (N, 2, H, E): key and value of every token, with the filler of the packing if it has any.
        packing: of the batch.
        scaling: factor of the scores.
        p: dropout of the attention probabilities, in [0, 1).

    Returns:
        (S, H, E).
    """
    # Elementwise, all runs at once: products of a vector with a small matrix are slow calls of bmm.
    precise = torch.promote_types(query.dtype, torch.float32)
    key, value = _real(kv, packing).to(precise).unbind(1)
    of_first = query.to(precise).index_select(0, packing.rows)
    places = (packing.rows, packing.positions)
    scores = key.new_full((query.shape[0], packing.longest, query.shape[1]), float("-inf"))
    scores = scores.index_put(places, (key * of_first).sum(2) * scaling)
    shares = dropout(scores.softmax(1), p, training=True)[places]
    context = torch.zeros_like(query, dtype=precise).index_add(0, packing.rows, shares[:, :, None] * value)
    return context.to(query.dtype)


class _PlainAttention(torch.autograd.Function):
    """Attention by plain products, group after group, with its backward written out.

    In one node of the graph for all groups, since the tensors are small and the bookkeeping of autograd would
    cost as much as the arithmetic. The softmax computes in float32.
    """

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, packing: Packing, scaling: float, p: float, window: int | None
    ) -> Tensor:
        heads = qkv.shape[2]
        laid_out = _laid_out(qkv, packing)
        masks, scale = _masks(packing.layout.groups, heads, p), 1 / kept_share(p)
        outputs: list[Tensor] = []
        saved: list[Tensor | None] = []
        for group, mask in zip(packing.layout.groups, masks, strict=True):
            query, key, value = _by_head(laid_out[group.places], group).flatten(1, 2)
            bias = packing.bias(group, window, qkv.dtype)
            probabilities = _probabilities(query, key, bias, scaling)
            context = _product(_dropped(probabilities, mask), value, scale)
            outputs.append(context.unflatten(0, (group.bins, heads)).transpose(1, 2).flatten(0, 1))
            saved += [query, key, value, probabilities, mask]
        ctx.save_for_backward(*saved)
        ctx.packing, ctx.scaling, ctx.scale = packing, scaling, scale
        return _taken_back(outputs, packing, len(qkv))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad,) = grads
        packing: Packing = ctx.packing
        heads, saved = grad.shape[1], ctx.saved_tensors
        laid_out = _laid_out(grad, packing)
        outputs: list[Tensor] = []
        for number, group in enumerate(packing.layout.groups):
            of_group = laid_out[group.places].unflatten(0, (group.bins, group.width))
            of_group = of_group.transpose(1, 2).flatten(0, 1)
            parts = _group_backward(of_group, saved[5 * number : 5 * number + 5], ctx.scaling, ctx.scale)
            parts = parts.unflatten(1, (group.bins, heads)).permute(1, 3, 0, 2, 4)
            outputs.append(parts.flatten(0, 1))
        return _taken_back(outputs, packing, len(grad)), None, None, None, None


def _group_backward(grad: Tensor, saved: Sequence[Any], scaling: float, scale: float) -> Tensor:
    """Gradients (3, bins·H, T, E) of query, key and value of a group from that of its output."""
    query, key, value, probabilities, mask = saved
    result = grad.new_empty(3, *grad.shape)
    _product(_dropped(probabilities, mask).transpose(1, 2), grad, scale, out=result[2])
    of_dropped = _dropped(_product(grad, value.transpose(1, 2), scale), mask)
    of_scores = _softmax_backward(of_dropped, probabilities)
    _product(of_scores, key, scaling, out=result[0])
    _product(of_scores.transpose(1, 2), query, scaling, out=result[1])
    return result


def _softmax_backward(grad: Tensor, probabilities: Tensor) -> Tensor:
    """Gradient of the scores from that of their softmax, in one pass."""
    # What autograd itself calls; torch has no public name for it.
    return torch.ops.aten._softmax_backward_data(grad, probabilities, 2, grad.dtype)


def _masks(groups: Sequence[Group], heads: int, p: float) -> list[Tensor | None]:
    """Masks of the probabilities of each group, (bins·H, T, T), drawn at once; None without dropout."""
    if p == 0:
        return [None] * len(groups)
    shapes = [(group.bins * heads, group.width, group.width) for group in groups]
    sizes = [math.prod(shape) for shape in shapes]
    flat = draw_mask((sum(sizes),), p).split(sizes)
    return [mask.view(shape) for mask, shape in zip(flat, shapes, strict=True)]


def _dropped(values: Tensor, mask: Tensor | None) -> Tensor:
    return values if mask is None else apply_mask(values, mask)


def _probabilities(query: Tensor, key: Tensor, bias: Tensor | None, scaling: float) -> Tensor:
    """(bins·H, T, T) attention probabilities; rows of padding hold numbers that no token reads."""
    scores = _product(query, key.transpose(1, 2), scaling)
    if bias is not None:
        scores.unflatten(0, (len(bias), -1)).add_(bias)
    return scores.softmax(2, dtype=scores.dtype)  # bfloat16 is rounded after it, not within


def _product(left: Tensor, right: Tensor, factor: float, out: Tensor | None = None) -> Tensor:
    """Products of batches of matrices, times a factor that costs nothing."""
    if out is None:
        out = left.new_empty(left.shape[0], left.shape[1], right.shape[2])
    return torch.baddbmm(out, left, right, beta=0, alpha=factor, out=out)


def _laid_out(tokens: Tensor, packing: Packing) -> Tensor:
    """(N, …) of tokens, and filler behind them, to (P, …) of the places of all groups."""
    take = packing.layout.take
    return _real(tokens, packing) if take is None else tokens.index_select(0, take)


def _real(tokens: Tensor, packing: Packing) -> Tensor:
    """(N, …) without the filler behind them. A slice that is the whole would be copied in the backward pass."""
    return tokens[: len(packing.rows)] if len(tokens) > len(packing.rows) else tokens


def _taken_back(of_groups: Sequence[Tensor], packing: Packing, count: int) -> Tensor:
    """(places, …) of each group to (count, …): the tokens, and zeros behind them."""
    places = of_groups[0] if len(of_groups) == 1 else torch.cat(list(of_groups))
    real = len(packing.rows)
    if packing.layout.keep is None and count == real:
        return places
    tokens = places.new_empty(count, *places.shape[1:])
    if packing.layout.keep is None:
        tokens[:real] = places
    else:
        torch.index_select(places, 0, packing.layout.keep, out=tokens[:real])
    tokens[real:] = 0
    return tokens


def _by_head(places: Tensor, group: Group) -> Tensor:
    """(P, K, H, E) of a group to (K, bins, H, T, E)."""
    return places.unflatten(0, (group.bins, group.width)).permute(2, 0, 3, 1, 4).contiguous()

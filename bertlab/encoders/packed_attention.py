"""Attention over packed sequences: each token sees the tokens of its own sequence and no other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from bertlab.encoders.dropout import apply_mask, draw_mask, dropout, kept_share
from bertlab.encoders.packing import Packing, Run

# Up to this length plain products cost less on a CPU than scaled_dot_product_attention, whose kernels are made for
# long sequences; with dropout it takes a path that is always slower.
PLAIN_LONGEST = 64
PLAIN_LONGEST_TRAINED = 128  # the backward of scaled_dot_product_attention costs more than its forward


def packed_attention(
    qkv: Tensor, packing: Packing, scaling: float, p: float = 0.0, window: int | None = None
) -> Tensor:
    """Scaled dot-product attention within each sequence.

    Args:
        qkv: (N, 3, H, E): query, key and value of H heads of size E, with the filler of the packing if it has any.
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
        return _PlainAttention.apply(qkv, packing.runs, scaling, p, window)
    outputs: list[Tensor] = []
    *of_runs, filler = qkv.split([*(run.tokens for run in packing.runs), packing.filler])
    for run, tokens in zip(packing.runs, of_runs, strict=True):
        if run.longest <= plain:
            outputs.append(_PlainAttention.apply(tokens, (replace(run, first=0),), scaling, p, window))
            continue
        query, key, value = _padded(tokens, run)
        bias = _bias(run, window, query.dtype, query.device)
        context = functional.scaled_dot_product_attention(query, key, value, bias, p, scale=scaling)
        outputs.append(_unpadded(context, run))
    if packing.filler:
        outputs.append(torch.zeros_like(filler[:, 0]))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


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
    key, value = kv[: len(packing.rows)].to(precise).unbind(1)
    of_first = query.to(precise).index_select(0, packing.rows)
    places = (packing.rows, packing.positions)
    scores = key.new_full((query.shape[0], packing.longest, query.shape[1]), float("-inf"))
    scores = scores.index_put(places, (key * of_first).sum(2) * scaling)
    shares = dropout(scores.softmax(1), p, training=True)[places]
    context = torch.zeros_like(query, dtype=precise).index_add(0, packing.rows, shares[:, :, None] * value)
    return context.to(query.dtype)


class _PlainAttention(torch.autograd.Function):
    """Attention by plain products, run after run, with its backward written out.

    In one node of the graph for all runs, since the tensors are small and the bookkeeping of autograd would
    cost as much as the arithmetic. The softmax is in float32.
    """

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, runs: tuple[Run, ...], scaling: float, p: float, window: int | None
    ) -> Tensor:
        heads = qkv.shape[2]
        output = qkv.new_empty(qkv.shape[0], heads, qkv.shape[3])
        output[_filler(runs)] = 0
        masks, scale = _masks(runs, heads, p, qkv.dtype), 1 / kept_share(p)
        saved: list[Tensor | None] = []
        for run, mask in zip(runs, masks, strict=True):
            query, key, value = (part.flatten(0, 1) for part in _padded(qkv[_tokens(run)], run))
            probabilities = _probabilities(query, key, run, scaling, window)
            context = _product(_dropped(probabilities, mask), value, scale)
            output[_tokens(run)] = _unpadded(context.unflatten(0, (run.sequences, heads)), run)
            saved += [query, key, value, probabilities, mask, context]
        ctx.save_for_backward(*saved)
        ctx.runs, ctx.scaling, ctx.scale, ctx.shape = runs, scaling, scale, qkv.shape
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad,) = grads
        result = grad.new_empty(ctx.shape)
        result[_filler(ctx.runs)] = 0
        saved = ctx.saved_tensors
        for number, run in enumerate(ctx.runs):
            of_run = saved[6 * number : 6 * number + 6]
            padded = _padded_gradient(grad[_tokens(run)], run)
            parts = _run_backward(padded, of_run, ctx.scaling, ctx.scale)
            stacked = torch.stack(parts).unflatten(1, (run.sequences, grad.shape[1]))
            tokens = stacked.permute(1, 3, 0, 2, 4).flatten(0, 1)
            result[_tokens(run)] = tokens if run.keep is None else tokens.index_select(0, run.keep)
        return result, None, None, None, None


def _run_backward(
    grad: Tensor, saved: Sequence[Any], scaling: float, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value (s·H, T, E) of a run from that of its output."""
    query, key, value, probabilities, mask, context = saved
    of_value = _product(_dropped(probabilities, mask).transpose(1, 2), grad, scale)
    of_dropped = _dropped(_product(grad, value.transpose(1, 2), scale), mask)
    # sum_j P_ij dP_ij = dO_i · O_i, also with dropout (Dao et al. 2022, arXiv:2205.14135, appendix B.4).
    precise = torch.promote_types(grad.dtype, torch.float32)
    sums = (grad.to(precise) * context.to(precise)).sum(2, keepdim=True)
    of_scores = torch.sub(of_dropped, sums).mul_(probabilities).to(query.dtype)
    of_query = _product(of_scores, key, scaling)
    of_key = _product(of_scores.transpose(1, 2), query, scaling)
    return of_query, of_key, of_value


def _masks(runs: Sequence[Run], heads: int, p: float, dtype: torch.dtype) -> list[Tensor | None]:
    """Masks of the probabilities of each run, (s·H, T, T), drawn at once; None without dropout."""
    if p == 0:
        return [None] * len(runs)
    shapes = [(run.sequences * heads, run.longest, run.longest) for run in runs]
    sizes = [math.prod(shape) for shape in shapes]
    flat = draw_mask((sum(sizes),), p, dtype).split(sizes)
    return [mask.view(shape) for mask, shape in zip(flat, shapes, strict=True)]


def _dropped(values: Tensor, mask: Tensor | None) -> Tensor:
    return values if mask is None else apply_mask(values, mask)


def _probabilities(query: Tensor, key: Tensor, run: Run, scaling: float, window: int | None) -> Tensor:
    """(s·H, T, T) attention probabilities; rows of padding hold numbers that nothing reads."""
    scores = _product(query, key.transpose(1, 2), scaling)
    precise = torch.promote_types(query.dtype, torch.float32)
    bias = _bias(run, window, precise, query.device)
    if bias is None:
        shares = scores.softmax(2, dtype=precise)
    else:
        shares = (scores.unflatten(0, (run.sequences, -1)) + bias).softmax(3).flatten(0, 1)
    return shares.to(query.dtype)


def _product(left: Tensor, right: Tensor, factor: float) -> Tensor:
    """Products of batches of matrices, times a factor that costs nothing."""
    nothing = left.new_empty(left.shape[0], left.shape[1], right.shape[2])
    return torch.baddbmm(nothing, left, right, beta=0, alpha=factor)


def _tokens(run: Run) -> slice:
    return slice(run.first, run.first + run.tokens)


def _filler(runs: Sequence[Run]) -> slice:
    """The rows behind those of all runs."""
    return slice(runs[-1].first + runs[-1].tokens, None)


def _padded(tokens: Tensor, run: Run) -> Tensor:
    """(n, K, H, E) of a run to (K, s, H, T, E)."""
    if run.take is not None:
        tokens = tokens.index_select(0, run.take)
    return tokens.unflatten(0, (run.sequences, run.longest)).permute(2, 0, 3, 1, 4).contiguous()


def _padded_gradient(grad: Tensor, run: Run) -> Tensor:
    """(n, H, E) of a run to (s·H, T, E), zero where there is padding."""
    if run.keep is not None:
        places = grad.new_zeros(run.sequences * run.longest, *grad.shape[1:])
        grad = places.index_copy_(0, run.keep, grad)
    return grad.unflatten(0, (run.sequences, run.longest)).transpose(1, 2).flatten(0, 1)


def _unpadded(context: Tensor, run: Run) -> Tensor:
    """(s, H, T, E) of a run to (n, H, E)."""
    tokens = context.transpose(1, 2).flatten(0, 1)
    return tokens if run.keep is None else tokens.index_select(0, run.keep)


def _bias(run: Run, window: int | None, dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """What is added to the scores: -inf where a token must not look; (s, 1, 1, T), with a window (., 1, T, T)."""
    hidden = None if run.padding is None else run.padding[:, None, None, :]
    if window is not None and run.longest > window:
        places = torch.arange(run.longest, device=device)
        far = ((places - places[:, None]).abs() >= window)[None, None]
        hidden = far if hidden is None else hidden | far
        # A row of padding might see nothing: it sees itself, so that its softmax, which nothing reads, is finite.
        hidden = hidden & (places != places[:, None])
    if hidden is None:
        return None
    return torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, float("-inf"))

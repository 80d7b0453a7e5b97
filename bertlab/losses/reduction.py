"""From the loss of each sequence to that of an optimizer step, however it is split into micro-batches."""

from __future__ import annotations

import torch
from torch import Tensor


def weighted_mean(losses: Tensor, weights: Tensor, step_weights: Tensor, micro_batches: int) -> Tensor:
    """The share of one micro-batch in the weighted mean loss of its optimizer step.

    `sum(weights · losses) / sum(step_weights) · micro_batches`. The mean of it over the step's micro-batches,
    which gradient accumulation (division by their number) and DDP (mean over ranks) take, is the weighted
    mean over all sequences of the step. A mean within each micro-batch is not: torch's
    `CrossEntropyLoss(weight=…)` divides by the weights that happen to be in it, so its objective changes with
    the split.

    Args:
        losses: (S,) of the micro-batch.
        weights: (S,) non-negative weight of each of its sequences.
        step_weights: (G,) weights of all sequences of the step.
        micro_batches: how many micro-batches, over all ranks, make up the step.

    Returns:
        A scalar; 0 for a step whose weights are all zero, which teaches nothing.

    Raises:
        ValueError: shapes do not match, or `micro_batches` is below 1.

    Examples:
        >>> losses, weights = torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.tensor([1.0, 1.0, 3.0, 3.0])
        >>> weighted_mean(losses, weights, weights, micro_batches=1)
        tensor(4.8750)
        >>> halves = [weighted_mean(losses[s], weights[s], weights, 2) for s in (slice(0, 2), slice(2, 4))]
        >>> sum(halves) / 2
        tensor(4.8750)
    """
    if losses.dim() != 1 or losses.shape != weights.shape:
        raise ValueError(
            "a loss gives one value a sequence, (S,), before the reduction: got losses of shape "
            f"{tuple(losses.shape)} and weights of shape {tuple(weights.shape)}"
        )
    if micro_batches < 1:
        raise ValueError(f"micro_batches takes 1 or more, got {micro_batches}")
    total = step_weights.sum()
    total = torch.where(total > 0, total, torch.ones_like(total))
    return (weights * losses).sum() / total * micro_batches

"""The share of a micro-batch in a mean over its whole optimizer step."""

from __future__ import annotations

from torch import Tensor


def step_mean(total: Tensor, step_count: int, micro_batches: int, epsilon: float = 0.0) -> Tensor:
    """The share of one micro-batch in the mean loss of its optimizer step: `total / step_count · micro_batches`.

    The mean of it over the step's micro-batches, which gradient accumulation (division by their number) and DDP
    (mean over ranks) take, is the mean over the whole step, however it is split.

    Args:
        total: sum of the losses of the micro-batch, a scalar.
        step_count: how many losses the whole step has, 0 or more.
        micro_batches: how many micro-batches, over all ranks, make up the step.
        epsilon: added to the count. google-research/bert adds 1e-5, which gives 0 where nothing is masked.

    Returns:
        A scalar; 0 for a step without losses.

    Raises:
        ValueError: the step has fewer losses than none, or fewer micro-batches than one.

    >>> import torch
    >>> parts = [step_mean(torch.tensor(part), 4, 2) for part in (3.0, 5.0)]
    >>> sum(parts) / 2
    tensor(2.)
    """
    if step_count < 0 or micro_batches < 1:
        raise ValueError(
            "a step has 0 or more losses in 1 or more micro-batches, got "
            f"{step_count} losses in {micro_batches} micro-batches"
        )
    if step_count == 0:
        return total * 0.0
    return total / (step_count + epsilon) * micro_batches

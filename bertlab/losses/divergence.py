"""How unlike two answers to the same rows are: the symmetric divergence ½·(KL(p‖q) + KL(q‖p)), one value a row."""

from __future__ import annotations

from torch import Tensor


def answer_divergence(one: Tensor, other: Tensor, labels: Tensor) -> Tensor:
    """The divergence that goes with the kind of labels.

    Args:
        one: (n, C) outputs for n rows (sequences, or words with a tag).
        other: the same.
        labels: (n,) int64 classes: `categorical`; (n, C) float: `bernoulli`; (n,) float targets: `squared`.

    Returns:
        (n,).

    Raises:
        ValueError: the outputs are not one row for each label.
    """
    if one.shape != other.shape or one.dim() != 2 or len(one) != len(labels):
        raise ValueError(
            f"answers are compared row by row: got outputs of shape {tuple(one.shape)} and {tuple(other.shape)} for "
            f"{len(labels)} labels"
        )
    if not labels.is_floating_point():
        return categorical(one, other)
    return bernoulli(one, other) if labels.dim() == 2 else squared(one, other)


def categorical(one: Tensor, other: Tensor) -> Tensor:
    """Of two softmax distributions: ½·Σ (p − q)·(log p − log q), in nats.

    Args:
        one: (n, C) logits.
        other: the same.

    Returns:
        (n,).

    Examples:
        >>> import torch
        >>> p, q = torch.tensor([[0.75, 0.25]]), torch.tensor([[0.25, 0.75]])
        >>> categorical(p.log(), q.log()), torch.tensor(3.0).log() / 2
        (tensor([0.5493]), tensor(0.5493))
    """
    p, q = one.log_softmax(1), other.log_softmax(1)
    return ((p.exp() - q.exp()) * (p - q)).sum(1) / 2


def bernoulli(one: Tensor, other: Tensor) -> Tensor:
    """Of C pairs of sigmoids: the mean over the classes of ½·(p − q)·(logit p − logit q), in nats.

    The mean, as `bertlab.losses.binary_cross_entropy` takes it.

    Args:
        one: (n, C) logits.
        other: the same.

    Returns:
        (n,).
    """
    return ((one.sigmoid() - other.sigmoid()) * (one - other)).mean(1) / 2


def squared(one: Tensor, other: Tensor) -> Tensor:
    """Of two numbers: (a − b)².

    It is the divergence of two normal distributions of variance ½, those whose likelihood the squared error is.

    Args:
        one: (n, 1).
        other: the same.

    Returns:
        (n,).
    """
    return (one - other).square().squeeze(1)

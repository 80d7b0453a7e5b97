"""Weights of classes for a cost-weighted loss: from their counts, from costs, from a cost matrix.

Each function gives (C,) float64 weights. Those made from counts are normalised so that the mean weight of a
training example, `sum(counts · weights) / sum(counts)`, is 1 unless said otherwise; a loss that divides by
the sum of weights (`bertlab.losses.reduction`) does not see the scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def balanced(counts: Tensor) -> Tensor:
    """`n / (C · n_c)`: every class weighs the same in total; scikit-learn's `class_weight="balanced"`.

    Args:
        counts: (C,) examples of each class.

    Raises:
        ValueError: a count is negative, zero or not finite, or there is none.

    Examples:
        >>> balanced(torch.tensor([90, 10]))
        tensor([0.5556, 5.0000], dtype=torch.float64)
    """
    counts = _checked_counts(counts)
    return counts.sum() / (len(counts) * counts)


def inverse_sqrt(counts: Tensor) -> Tensor:
    """Proportional to `1 / √n_c`, halfway between no weights and `balanced`; the mean over examples is 1.

    Args:
        counts: (C,) examples of each class.

    Raises:
        ValueError: a count is negative, zero or not finite, or there is none.

    Examples:
        >>> inverse_sqrt(torch.tensor([90, 10]))
        tensor([0.8333, 2.5000], dtype=torch.float64)
    """
    counts = _checked_counts(counts)
    return _mean_one(counts.rsqrt(), counts)


def effective_number(counts: Tensor, beta: float = 0.999) -> Tensor:
    """Proportional to `(1 - β) / (1 - β^n_c)`, normalised to a sum of C as in the paper.

    Cui et al. 2019, arXiv:1901.05555, eq. 2 and section 4. β = 0 gives no weights, β → 1 those of `balanced`
    up to a factor. Note the scale: the sum of the weights is C, not the mean over examples 1.

    Args:
        counts: (C,) examples of each class.
        beta: in [0, 1); the paper tries 0.9, 0.99, 0.999 and 0.9999.

    Raises:
        ValueError: `beta` is out of range; a count is negative, zero or not finite, or there is none.

    Examples:
        >>> effective_number(torch.tensor([90, 10]), beta=0.9)
        tensor([0.7889, 1.2111], dtype=torch.float64)
    """
    if not 0 <= beta < 1:
        raise ValueError(f"effective_number.beta takes a number in [0, 1), got {beta}")
    counts = _checked_counts(counts)
    if beta == 0:
        return torch.ones_like(counts)
    # 1 - β^n by expm1: for β near 1 the plain difference loses all digits.
    weights = (1 - beta) / -torch.expm1(counts * math.log(beta))
    return weights * len(counts) / weights.sum()


def explicit(costs: Sequence[float], classes: int) -> Tensor:
    """The given cost of each class, as it stands.

    Args:
        costs: one for each of the C classes, in the order of the labels; none negative, not all zero.
        classes: C.

    Raises:
        ValueError: the number is wrong; a cost is negative or not finite; all are zero.

    Examples:
        >>> explicit([1.0, 5.0], classes=2)
        tensor([1., 5.], dtype=torch.float64)
    """
    weights = torch.as_tensor(costs, dtype=torch.float64)
    if weights.dim() != 1 or len(weights) != classes:
        raise ValueError(f"costs takes one number for each of the {classes} classes, got {list(costs)}")
    _check_entries(weights, "costs")
    if not weights.any():
        raise ValueError(f"costs takes at least one number above 0, got {list(costs)}")
    return weights


def from_cost_matrix(matrix: Sequence[Sequence[float]], counts: Tensor) -> Tensor:
    """A class weighs what it costs to miss it: instance weighting after Ting 2002.

    Ting 2002, "An instance-weighting method to induce cost-sensitive trees", IEEE TKDE 14(3), eq. 1–2: the
    cost of class i is the sum of row i, `V(i) = Σ_j matrix[i][j]`, and its weight `V(i) · n / Σ_k V(k) ·
    n_k`, so that the mean over examples is 1.

    Args:
        matrix: (C, C); `matrix[i][j]` is the cost of predicting class j when the truth is i; the diagonal is
            zero.
        counts: (C,) examples of each class; a class may have none.

    Raises:
        ValueError: the matrix is not C × C; an entry is negative or not finite; the diagonal is not zero; the
            costs of the classes that have examples are all zero; a count is negative or not finite.

    Examples:
        >>> from_cost_matrix([[0, 1], [5, 0]], torch.tensor([90, 10]))
        tensor([0.7143, 3.5714], dtype=torch.float64)
    """
    counts = _checked_counts(counts, absent=True)
    classes = len(counts)
    rows = [list(row) for row in matrix]
    if len(rows) != classes or any(len(row) != classes for row in rows):
        raise ValueError(
            f"cost_matrix takes {classes} rows of {classes} numbers, got rows of {[len(row) for row in rows]}"
        )
    costs = torch.tensor(rows, dtype=torch.float64)
    _check_entries(costs, "cost_matrix")
    if costs.diagonal().any():
        raise ValueError(
            f"cost_matrix takes a diagonal of zeros (a right answer costs nothing), got "
            f"{costs.diagonal().tolist()}"
        )
    weights = costs.sum(dim=1)
    if not (weights * counts).any():
        raise ValueError("cost_matrix takes a number above 0 for a class that has examples, all are 0")
    return _mean_one(weights, counts)


def annealed(weights: Tensor, strength: float) -> Tensor:
    """Between no weights (strength 0) and the given ones (strength 1): `weights ** strength`.

    The power, not a straight line: it takes ratios of weights from 1 to their target in equal steps of the
    logarithm, so halfway `balanced` is `inverse_sqrt` (up to scale). A weight of zero is zero from the first
    strength above 0.

    Args:
        weights: (C,) non-negative.
        strength: in [0, 1].

    Raises:
        ValueError: `strength` is out of range.

    Examples:
        >>> annealed(torch.tensor([1.0, 16.0]), strength=0.5)
        tensor([1., 4.])
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"annealed.strength takes a number in [0, 1], got {strength}")
    return weights**strength


def _mean_one(weights: Tensor, counts: Tensor) -> Tensor:
    return weights * counts.sum() / (weights * counts).sum()


def _checked_counts(counts: Tensor, absent: bool = False) -> Tensor:
    values = torch.as_tensor(counts, dtype=torch.float64)
    if values.dim() != 1 or len(values) == 0:
        raise ValueError(f"class counts take one number a class, got shape {tuple(values.shape)}")
    _check_entries(values, "class counts")
    missing = (values == 0).nonzero().flatten().tolist()
    if missing and not absent:
        raise ValueError(
            f"class counts take 1 or more examples of each class; the training split has none of class "
            f"{missing}: weights cannot be made from counts, give costs instead"
        )
    return values


def _check_entries(values: Tensor, name: str) -> None:
    if not values.isfinite().all() or (values < 0).any():
        raise ValueError(f"{name} takes finite numbers of 0 or more, got {values.tolist()}")

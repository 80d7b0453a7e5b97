"""The nearest matrix with orthogonal rows or columns, by Newton-Schulz iteration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

#: Of the polynomial a·s + b·s³ + c·s⁵ of a singular value s (Jordan et al. 2024, "Muon: an optimizer for hidden
#: layers in neural networks"): steep at 0, so that small values grow quickly; large ones end between 0.68 and 1.14.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalized(matrices: Sequence[Tensor], iterations: int = 5) -> list[Tensor]:
    """Matrices with the same singular vectors, and singular values near 1 in place of theirs.

    Computed in float32 on the CPU, where bfloat16 may be emulated, and in bfloat16 elsewhere, as the method was
    published: it needs no exact result. Matrices of one shape, or of one turned by a right angle, go through one
    product.

    Args:
        matrices: (m, n) of any shapes.
        iterations: of Newton-Schulz, 1 or more; 5 bring singular values from 1e-3 of the norm upwards near 1.

    Returns:
        Matrices of the same shapes and types; zeros stay zeros.

    Examples:
        >>> found = orthogonalized([torch.tensor([[3.0, 0.0], [0.0, -0.5]])])[0]
        >>> bool((torch.linalg.svdvals(found) - 1).abs().max() < 0.35)
        True
    """
    shapes: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, matrix in enumerate(matrices):
        rows, columns = matrix.shape
        shapes[min(rows, columns), max(rows, columns)].append(index)
    found: dict[int, Tensor] = {}
    for indices in shapes.values():
        wide = [_wide(matrices[index]) for index in indices]
        stacked = _newton_schulz(torch.stack(wide), iterations)
        for index, result in zip(indices, stacked, strict=True):
            turned = result.T if matrices[index].shape[0] > matrices[index].shape[1] else result
            found[index] = turned.to(matrices[index].dtype)
    return [found[index] for index in range(len(matrices))]


def _wide(matrix: Tensor) -> Tensor:
    """With no more rows than columns: the product of the iteration is as small as it can be."""
    return matrix.T if matrix.shape[0] > matrix.shape[1] else matrix


def _newton_schulz(x: Tensor, iterations: int) -> Tensor:
    """(K, m, n) with m ≤ n."""
    a, b, c = COEFFICIENTS
    x = x.to(torch.float32 if x.device.type == "cpu" else torch.bfloat16)
    # The Frobenius norm is at least the largest singular value, so that all are at most 1.
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x

"""How far the rows of a matrix are from being orthonormal."""

from __future__ import annotations

import torch
from torch import Tensor


def orthogonality_gradient(matrix: Tensor) -> Tensor:
    """The gradient of ‖M·Mᵀ − 1‖, in the Frobenius norm, by M: 2·(M·Mᵀ − 1)·M / ‖M·Mᵀ − 1‖.

    Args:
        matrix: M, (r, n).

    Returns:
        (r, n) in float32 or better; 0 where the rows are orthonormal.

    >>> orthogonality_gradient(torch.tensor([[2.0, 0.0]]))  # of |m² − 1| by m
    tensor([[4., 0.]])
    """
    rows = matrix.detach().to(torch.promote_types(matrix.dtype, torch.float32))
    off = rows @ rows.T - torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
    size = off.norm()
    return torch.zeros_like(rows) if size == 0 else 2 * (off @ rows) / size

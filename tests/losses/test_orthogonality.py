from __future__ import annotations

import torch

from bertlab.losses.orthogonality import orthogonality_gradient


def test_it_is_that_of_autograd() -> None:
    matrix = torch.randn(3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    held = matrix.clone().requires_grad_()
    (held @ held.T - torch.eye(3, dtype=torch.float64)).norm().backward()
    torch.testing.assert_close(orthogonality_gradient(matrix), held.grad)


def test_orthonormal_rows_stay() -> None:
    assert torch.equal(orthogonality_gradient(torch.eye(2, 5)), torch.zeros(2, 5))

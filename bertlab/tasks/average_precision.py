"""Area under a precision-recall curve, defined also where nothing is true."""

from __future__ import annotations

from torch import Tensor
from torchmetrics.functional.classification import binary_average_precision


def average_precision(probabilities: Tensor, true: Tensor) -> Tensor:
    """Area under the precision-recall curve, as a sum over its steps; 0 where no row is true.

    Args:
        probabilities: (n,) float.
        true: (n,) int, 0 or 1.
    """
    if not true.any():
        return probabilities.new_zeros(())
    area = binary_average_precision(probabilities, true)
    assert area is not None
    return area

"""Numbers of rows that come again, for processors that make a program for each shape of a product."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

#: In bfloat16 on a CPU oneDNN makes a program for each shape, which can take as long as the product and keeps memory.
BFLOAT16_CPU = 64


def product_dtype(values: Tensor) -> torch.dtype:
    """The precision of a product: that of autocast where it is on, else that of what is multiplied."""
    device = values.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else values.dtype


def row_multiple(weight: Tensor) -> int:
    """What the rows of a product with a weight are made up to a multiple of, where shapes shall come again.

    Args:
        weight: of the product, which follows autocast where that is on.
    """
    on_cpu = weight.device.type == "cpu"
    return BFLOAT16_CPU if on_cpu and product_dtype(weight) == torch.bfloat16 else 1


def pad_rows(values: Tensor, multiple: int) -> Tensor:
    """(M, …) with rows of zeros behind it, so that their number is a multiple.

    >>> pad_rows(torch.ones(3, 2), 4).tolist()
    [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]
    """
    missing = -len(values) % multiple
    return functional.pad(values, [0, 0] * (values.dim() - 1) + [0, missing]) if missing else values

"""Which rows of a table its gradient names: known to the layer that made it, asked by the optimizer."""

from __future__ import annotations

from typing import Protocol, cast

from torch import Tensor

_KEY = "_row_names"


class NamesRows(Protocol):
    """Knows which rows of a gradient that it made are not zero."""

    def rows_of(self, gradient: Tensor) -> Tensor | None:
        """(N,) rows of an (R, D) gradient, some of them several times, besides which it is zero.

        None: it did not make this gradient, or another has written into it since.
        """
        ...


def set_row_names(weight: Tensor, names: NamesRows) -> None:
    """Say who makes the gradient of a table."""
    setattr(weight, _KEY, names)


def named_rows(weight: Tensor) -> Tensor | None:
    """(N,) rows besides which the gradient of a table is zero, some several times; None: nobody knows them."""
    names = cast("NamesRows | None", getattr(weight, _KEY, None))
    return None if names is None or weight.grad is None else names.rows_of(weight.grad)

"""Loops compiled to machine code by numba, under the type of the Python function that they are written as."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

F = TypeVar("F", bound=Callable[..., Any])

#: Arrays in a compiled loop: an element of one is a whole number there, which NumPy's own types do not say.
Numbers = Any


def compiled(function: F) -> F:
    """Compile with the first call, once a machine, and run without the interpreter's lock.

    What numba keeps on the disk is renewed when the function's own file changes, not when a function that it
    calls changes in another file. `random_numbers` is the one file that others call; what it computes is fixed,
    since a resumed run has to draw the same numbers, and its tests hold it to known values.
    """
    return cast(F, numba.njit(nogil=True, cache=True)(function))


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same memory, contiguous and read-only: memory-mapped or not, loops are compiled for one type."""
    view = np.ascontiguousarray(array).view(np.ndarray)
    view.flags.writeable = False
    return view

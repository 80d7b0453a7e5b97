"""How a process asks for memory."""

from __future__ import annotations

import ctypes
import os
import sys

# Of mallopt, as glibc's malloc.h has them.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Have glibc keep memory that is freed for what asks for it next.

    By itself glibc asks the operating system for each piece above 32 MB anew, and gives the end of its heap back when
    that is free: in each step of a training the activations and large gradients are mapped page by page and filled
    with zeros, which takes longer than much of the arithmetic on them. Somewhat more is kept than a step needs at most:
    aligned memory does not always fit into the hole that it left.
    `bertlab fit | validate | test | predict` call it where they work on a CPU; a script of one's own may too.

    Nothing is changed where the environment says how to allocate (a variable that begins with `MALLOC_`, or
    `GLIBC_TUNABLES`), nor where the C library is not glibc.

    Returns:
        Whether memory is kept from now on.
    """
    if sys.platform != "linux":
        return False
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all(
        mallopt(option, value) == 1 for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))
    )

"""How a process that works on a CPU asks for memory, and what it keeps."""

from __future__ import annotations

import ctypes
import os
import sys

# Of mallopt, as glibc's malloc.h has them.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4

#: How many programs each cache keeps. One in oneDNN's has a quarter of a megabyte, and takes 0.3 ms to make again;
#: those in torch's own have more, and are made of oneDNN's in 0.01 ms. With 256 and 64 steps take as long.
_PROGRAMS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": 64, "LRU_CACHE_CAPACITY": 1}


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


def keep_few_programs() -> None:
    """Have oneDNN keep the programs of its last products alone.

    On a CPU it makes a program for each shape of a product in bfloat16, and by itself keeps 1024 of them, torch another
    1024. Where lengths vary, new shapes come with every step: hundreds of megabytes, in small pieces between the
    activations, which so do not fit into the holes that they left. Has to be called before the first product; what the
    environment says stands (also by the old name, `DNNL_PRIMITIVE_CACHE_CAPACITY`).
    """
    for name, programs in _PROGRAMS.items():
        if name.replace("ONEDNN_", "DNNL_") not in os.environ:
            os.environ.setdefault(name, str(programs))

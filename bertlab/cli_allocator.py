"""How memory is asked for where training runs on a CPU."""

from __future__ import annotations

import ctypes
import os
import sys

from lightning.pytorch import Trainer

# Of mallopt, as glibc's malloc.h has them.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory(trainer: Trainer) -> bool:
    """Have glibc keep memory that is freed for what asks for it next, if the trainer works on a CPU.

    By itself glibc asks the operating system for each piece above 32 MB anew, and gives the end of its heap back when
    that is free: in each step of a training the activations and large gradients are mapped page by page and filled
    with zeros, which takes longer than much of the arithmetic on them. About as much is kept as a step needs at most.

    Nothing is changed where the environment says how to allocate (a variable that begins with `MALLOC_`, or
    `GLIBC_TUNABLES`), nor where the C library is not glibc.

    Args:
        trainer: made, so that its devices are known.

    Returns:
        Whether memory is kept from now on.
    """
    if trainer.strategy.root_device.type != "cpu" or sys.platform != "linux":
        return False
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all(
        mallopt(option, value) == 1 for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))
    )

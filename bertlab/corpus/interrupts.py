"""Ctrl-C at a moment when it must not come."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def held_interrupts() -> Generator[None]:
    """Ctrl-C within is answered at the end, so that what has been begun is written down as well.

    It does not reach processes that are started within either, which a terminal sends it to. In another thread than the
    main one, and where Ctrl-C is ignored, nothing changes.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    came: list[FrameType | None] = []
    signal.signal(signal.SIGINT, lambda _, frame: came.append(frame))
    # New processes inherit it; threads of this one that do not block it still let the handler be called.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(signal.SIGINT, came[0])

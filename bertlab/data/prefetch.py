"""Batches made ahead in a thread, for a loader without worker processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Full, Queue
from typing import Any


def ahead(batches: Iterator[Any], depth: int) -> Iterator[Any]:
    """The same batches in the same order, up to `depth` of them made before they are asked for.

    Loops that run without the interpreter's lock make them beside the training step, and nothing is copied between
    processes. An error is raised where its batch would have come. The thread ends when the iterator is closed.

    Args:
        batches: asked for in the thread only.
        depth: at least 1.
    """
    queue: Queue[tuple[bool, Any]] = Queue(maxsize=depth)
    closed = threading.Event()

    def put(is_batch: bool, value: Any) -> bool:
        while not closed.is_set():
            try:
                queue.put((is_batch, value), timeout=0.1)
            except Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for batch in batches:
                if not put(True, batch):
                    return
        except BaseException as error:  # raised again below, in the thread that waits for it
            put(False, error)
        else:
            put(False, None)

    thread = threading.Thread(target=work, name="bertlab-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            is_batch, value = queue.get()
            if is_batch:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        closed.set()
        thread.join()

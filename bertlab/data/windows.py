"""Pure arithmetic of long sentences: windows that together answer for every word once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]


class Window(NamedTuple):
    """A part of a sentence that is read at once; numbers of words, each end after the last.

    Attributes:
        left: the first word that is read.
        start: the first word that it answers for; those before are context.
        stop: the end of the words that it answers for.
        right: the end of the words that are read.
    """

    left: int
    start: int
    stop: int
    right: int


def windows_of(pieces: Numbers, room: int, context: int) -> list[Window]:
    """Divide a sentence into windows; one if it fits.

    Each window answers for the words after those of the one before, and reads whole words on either side of them as
    context, as many as have at most `context` pieces.

    Args:
        pieces: (w,) word pieces of each word, each at least 1 and at most `room`.
        room: pieces of a window at most.
        context: pieces on either side at most, below half of `room`.

    >>> windows_of(np.array([2, 2, 2, 2, 2]), room=10, context=2)
    [Window(left=0, start=0, stop=5, right=5)]
    >>> windows_of(np.array([2, 2, 2, 2, 2]), room=8, context=2)
    [Window(left=0, start=0, stop=3, right=4), Window(left=2, start=3, stop=5, right=5)]
    """
    ends = np.concatenate([[0], np.cumsum(pieces)])
    words = len(pieces)
    found: list[Window] = []
    start = 0
    while start < words:
        # Less context where the first word itself needs the room.
        before = min(context, room - int(pieces[start]))
        left = int(np.searchsorted(ends, ends[start] - before, side="left"))
        right = int(np.searchsorted(ends, ends[left] + room, side="right")) - 1
        stop = words
        if right < words:
            stop = int(np.searchsorted(ends, ends[right] - context, side="left"))
            stop = max(stop, start + 1)
        found.append(Window(left, start, stop, right))
        start = stop
    return found


def ranges(starts: Numbers, counts: Numbers) -> Numbers:
    """Several runs of numbers one after another.

    >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    ends = np.cumsum(counts)
    return np.repeat(starts - (ends - counts), counts) + np.arange(ends[-1] if len(ends) else 0)

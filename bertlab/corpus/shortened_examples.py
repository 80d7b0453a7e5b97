"""Examples that are cut to fewer tokens before they are packed and masked."""

from __future__ import annotations

import numpy as np

from bertlab.corpus.examples import Examples
from bertlab.corpus.packed_examples import lengths_of


def shorten(examples: Examples, limit: int) -> Examples:
    """Cut examples to a number of tokens: of a pair the longer segment first, as long as it is the longer one.

    A segment that stands alone loses its end. Of a pair, A loses its beginning and B its end, so that what meets at the
    [SEP] between them is what met there before: whether B goes on where A stops can still be told.

    Args:
        examples: E examples.
        limit: tokens of an example at most, [CLS] and [SEP] included; 5 or more, so that something is left of a pair.

    >>> pair = Examples(np.array([[10, 50]]), np.array([[6, 2]]), np.array([0]))
    >>> shorten(pair, 8)[:2]
    (array([[13, 50]]), array([[3, 2]]))
    """
    if limit < 5:
        raise ValueError(f"examples cannot be cut to {limit} tokens: 5 or more are accepted")
    if lengths_of(examples).max(initial=0) <= limit:
        return examples
    first, second = examples.sizes[:, 0], examples.sizes[:, 1]
    paired = second > 0
    room = limit - 2 - paired
    fits = first + second <= room
    # B's share of an odd room is the larger one.
    kept_first = np.where(second <= room - room // 2, room - second, np.minimum(first, room // 2))
    kept_first = np.where(fits, first, np.minimum(first, kept_first))
    kept_second = np.where(fits, second, np.minimum(second, room - kept_first))
    starts = examples.starts.copy()
    starts[:, 0] += np.where(paired, first - kept_first, 0)
    return Examples(starts, np.stack([kept_first, kept_second], axis=1), examples.labels)

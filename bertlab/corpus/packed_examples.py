"""Examples as token ids with [CLS] and [SEP], one after another without padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bertlab.corpus.compiled import Numbers, compiled
from bertlab.corpus.examples import Examples
from bertlab.corpus.pairs import NONE


def special_tokens(task: int) -> int:
    """Tokens of an example that are no text: [CLS] A [SEP] B [SEP], or [CLS] A [SEP] where the task has no B."""
    return 2 if task == NONE else 3


def lengths_of(examples: Examples) -> npt.NDArray[np.int64]:
    """(E,) tokens of each example: [CLS] A [SEP] B [SEP], or [CLS] A [SEP] where B is empty."""
    return examples.sizes.sum(axis=1) + 2 + (examples.sizes[:, 1] > 0)


def pack(
    tokens: npt.NDArray[Any], examples: Examples, cls_id: int, sep_id: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Copy examples out of a corpus.

    Args:
        tokens: (N,) of the corpus.
        examples: E stretches of it.
        cls_id: id of [CLS].
        sep_id: id of [SEP].

    Returns:
        Ids and segments, one array each over all tokens: [CLS] A [SEP] is segment 0, B [SEP] segment 1.

    >>> text = np.array([7, 8, 9], dtype=np.uint16)
    >>> pair = Examples(np.array([[0, 2]]), np.array([[2, 1]]), np.array([0]))
    >>> [array.tolist() for array in pack(text, pair, 1, 2)]
    [[1, 7, 8, 2, 9, 2], [0, 0, 0, 0, 1, 1]]
    """
    total = int(lengths_of(examples).sum())
    ids, types = np.empty(total, dtype=np.int64), np.zeros(total, dtype=np.int64)
    _copy(tokens, examples.starts, examples.sizes, cls_id, sep_id, ids, types)
    return ids, types


@compiled
def _copy(
    tokens: Numbers,
    starts: Numbers,
    sizes: Numbers,
    cls_id: int,
    sep_id: int,
    ids: Numbers,
    types: Numbers,
) -> None:
    place = 0
    for row in range(len(starts)):
        ids[place] = cls_id
        place += 1
        for segment in range(2):
            size = sizes[row, segment]
            if segment == 0 or size > 0:
                begin = starts[row, segment]
                for token in range(begin, begin + size):
                    ids[place], types[place] = tokens[token], segment
                    place += 1
                ids[place], types[place] = sep_id, segment
                place += 1

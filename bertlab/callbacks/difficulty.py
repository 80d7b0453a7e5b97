"""How hard training rows are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bertlab.interfaces import HasFixedRows, HasRowScores

Scores = npt.NDArray[np.float64]


def difficulties(by: str, data: Any) -> Scores:
    """(n,) how hard each training row is: greater is harder.

    Platanios et al. 2019, arXiv:1903.09848, with word pieces for words.

    Args:
        by: "length", "rarity", "column:<name>", or a table of scores; see `DataOrder`.
        data: the data module, whose training rows are known.

    Raises:
        TypeError: the data module does not tell its rows, or takes no scores.
        ValueError: neither of the two words, nor a column, nor a file; one without a score for a row.
    """
    if not isinstance(data, HasFixedRows):
        raise TypeError(f"DataOrder needs rows that can be ranked, which {type(data).__name__} does not have")
    rows = data.dataset("train")
    if by == "length":
        return rows.lengths.astype(np.float64)
    if by == "rarity":
        batch = rows.batch(np.arange(len(rows.lengths)))
        ids, lengths = batch.input_ids.numpy(), batch.lengths.numpy()
        found = np.empty(len(lengths))
        found[batch.index.numpy()] = rarity(ids, lengths)
        return found
    if not isinstance(data, HasRowScores):
        raise TypeError(
            f"DataOrder.difficulty: {by!r} is neither length nor rarity, and {type(data).__name__} takes no scores "
            "from a column or a table"
        )
    return data.row_scores(by)


def rarity(ids: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Scores:
    """(S,) −Σ log p(token) of each sequence, p the share of the token among all of them.

    Args:
        ids: (N,) tokens of all sequences one after another.
        lengths: (S,) tokens of each.

    >>> rarity(np.array([7, 7, 8, 7]), np.array([2, 2])).round(4).tolist()
    [0.5754, 1.674]
    """
    _, which, counts = np.unique(ids, return_inverse=True, return_counts=True)
    surprise = -np.log(counts / len(ids))[which]
    return np.add.reduceat(surprise, np.cumsum(lengths) - lengths)


def ranks_of(scores: Scores) -> Scores:
    """(n,) of each row, the share of the rows that are as easy or easier, in (0, 1]; equal ones in an order drawn once.

    >>> ranks_of(np.array([3.0, 1.0, 2.0, 9.0])).tolist()
    [0.75, 0.25, 0.5, 1.0]
    """
    drawn = np.random.default_rng(0).permutation(len(scores))
    order = drawn[np.argsort(scores[drawn], kind="stable")]
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1) / len(scores)
    return ranks

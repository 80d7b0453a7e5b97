"""Which documents are dropped because an earlier one says the same."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from bertlab.corpus.signature_file import SignatureFile
from bertlab.corpus.signatures import EXACT_BYTES, TextSignature

Rows = npt.NDArray[np.int64]

# Share of pairs at the threshold that must meet in a band; above the threshold it is more.
_RECALL = 0.95
# Signatures that are compared at once.
_BLOCK_ROWS = 4096


class Duplicates(NamedTuple):
    """What is dropped.

    Attributes:
        dropped: (duplicates,) int64 document indices, ascending.
        kept: (duplicates,) int64, for each of them the document that stays: the first of its group.
        exact: how many of them have the words of an earlier document.
        near: how many are like an earlier one only.
    """

    dropped: Rows
    kept: Rows
    exact: int
    near: int


class Deduplicator:
    """Exact and near duplicates among documents: of each group the first stays.

    Two passes: signatures are made in any number of processes (`deduplicator.signature` is picklable), then fed here
    in the order of the documents with `add`, and `decide` tells which are dropped. The answer depends on the
    signatures and their order alone.

    Exact duplicates have the same words. Two documents are alike if the Jaccard similarity of their word n-grams, as
    their MinHashes estimate it, is at least `threshold`. Candidates are found by locality-sensitive hashing: the
    MinHash is cut into bands, as long as two documents right at the threshold still agree in one of them with
    probability 0.95, and those that agree in a band are verified on the whole MinHash. Likeness is taken to be
    transitive, as by Lee et al. 2022 (arXiv:2107.06499, appendix A; they verify by edit distance): a document may
    go because it is like one that goes itself. Of those that agree in a band each is compared with the first that
    none before it is like, rather than all with all, so a page printed 100,000 times costs 100,000 comparisons.

    Memory does not grow with the text: signatures lie in a temporary file in `folder`, deleted by `close`, and
    bands are looked at one after another. What grows is 8 bytes a document, and about 50 more while it is decided.

    Args:
        ngram: words of an n-gram, at least 1; a text of fewer words is one n-gram.
        threshold: similarity from which on documents are near duplicates, in (0, 1]; null: exact duplicates only.
        permutations: numbers of the MinHash, 4 bytes each, at least 16. The standard deviation of the estimate is
            √(threshold · (1 − threshold) / permutations): 0.035 by default.
        folder: of the temporary file; null: that of the system.

    Raises:
        ValueError: a bad argument.

    >>> texts = ["One two three four five.", "Other", "one, two three four five", "one two three four six"]
    >>> with Deduplicator(ngram=2, threshold=0.5) as deduplicator:
    ...     for index, text in enumerate(texts):
    ...         deduplicator.add(index, deduplicator.signature(text))
    ...     deduplicator.decide()
    Duplicates(dropped=array([2, 3]), kept=array([0, 0]), exact=1, near=1)
    """

    def __init__(
        self,
        ngram: int = 5,
        threshold: float | None = 0.8,
        permutations: int = 128,
        folder: str | Path | None = None,
    ) -> None:
        if threshold is not None and not 0.0 < threshold <= 1.0:
            raise ValueError(f"threshold: {threshold} is not in (0, 1].")
        if threshold is not None and permutations < 16:
            raise ValueError(f"permutations: {permutations} is less than 16.")
        self.threshold = threshold
        self.signature = TextSignature(ngram, 0 if threshold is None else permutations)
        self._band_bytes = 0 if threshold is None else 4 * band_rows(threshold, permutations)
        self._signatures = SignatureFile(self.signature.size, folder)
        self._indices = array("q")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delete the temporary file."""
        self._signatures.close()

    def add(self, index: int, signature: bytes) -> None:
        """Take the next document.

        Args:
            index: of the document, greater than all before it; gaps are allowed (documents rejected earlier).
            signature: what `self.signature` made of its text.

        Raises:
            ValueError: documents out of order, or a signature of other settings.
        """
        if self._indices and index <= self._indices[-1]:
            raise ValueError(f"Document {index} comes after document {self._indices[-1]}: not in order.")
        if len(signature) != self.signature.size:
            raise ValueError(
                f"The signature of document {index} has {len(signature)} bytes instead of {self.signature.size}: it "
                "was made with other settings."
            )
        self._signatures.append(signature)
        self._indices.append(index)

    def decide(self) -> Duplicates:
        """Which of the documents added so far are dropped."""
        first = np.arange(len(self._indices), dtype=np.int64)
        for group in _equal(self._signatures.columns(0, EXACT_BYTES)):
            first[group] = group[0]
        copies = first != np.arange(len(first))
        if self.threshold is not None:
            self._join_alike(first, copies)
        while not np.array_equal(further := first[first], first):
            first = further
        dropped = np.flatnonzero(first != np.arange(len(first)))
        indices = np.array(self._indices, dtype=np.int64)
        exact = int(copies.sum())
        return Duplicates(indices[dropped], indices[first[dropped]], exact, len(dropped) - exact)

    def _join_alike(self, first: Rows, copies: npt.NDArray[np.bool_]) -> None:
        step = self._band_bytes
        for start in range(EXACT_BYTES, self.signature.size - step + 1, step):
            for group in _equal(self._signatures.columns(start, start + step)):
                # Exact copies go with the document that they are copies of.
                others = group[~copies[group]]
                while len(others) > 1:
                    leader, others = int(others[0]), others[1:]
                    alike = self._alike(leader, others)
                    for other in others[alike]:
                        _join(first, leader, int(other))
                    others = others[~alike]

    def _alike(self, leader: int, others: Rows) -> npt.NDArray[np.bool_]:
        """(others,) whether each is like the leader."""
        ours = self._minhashes(np.array([leader]))
        shares = [
            (self._minhashes(others[at : at + _BLOCK_ROWS]) == ours).mean(axis=1)
            for at in range(0, len(others), _BLOCK_ROWS)
        ]
        return np.concatenate(shares) >= self.threshold

    def _minhashes(self, rows: Rows) -> npt.NDArray[np.uint32]:
        return self._signatures.rows(rows)[:, EXACT_BYTES:].view("<u4")


def band_rows(threshold: float, permutations: int) -> int:
    """How many numbers of the MinHash make a band: as many as keep the recall at the threshold.

    Two documents of similarity s agree in one of b bands of r numbers with probability 1 − (1 − sʳ)ᵇ (Leskovec,
    Rajaraman and Ullman, Mining of Massive Datasets, section 3.4.2); the longer a band, the fewer vain comparisons.

    >>> band_rows(0.8, 128), band_rows(0.5, 128)
    (7, 3)
    """
    for rows in range(permutations, 1, -1):
        if 1.0 - (1.0 - threshold**rows) ** (permutations // rows) >= _RECALL:
            return rows
    return 1


def _equal(columns: npt.NDArray[np.uint64]) -> Iterator[Rows]:
    """Groups of two and more rows, ascending, that are equal in all of the (keys, rows) columns."""
    order = np.lexsort(columns)  # stable
    alike = np.zeros(
        len(order) + 1, dtype=np.bool_
    )  # whether a row, in this order, is equal to the one before it
    alike[1:-1] = True
    for column in columns:  # one after another, for the sake of memory
        ordered = column[order]
        alike[1:-1] &= ordered[1:] == ordered[:-1]
        del ordered
    edges = np.flatnonzero(alike[1:] != alike[:-1])
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        yield order[first : last + 1]


def _join(first: Rows, one: int, other: int) -> None:
    """Let the groups of two rows be one, under the first row of both."""
    roots: list[int] = []
    for row in (one, other):
        while first[row] != row:
            first[row] = first[first[row]]
            row = int(first[row])  # noqa: PLW2901
        roots.append(row)
    first[max(roots)] = min(roots)

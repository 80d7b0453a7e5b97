"""The stage between text and tokens: which documents say what an earlier one says already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

#: Of documents of a shard; each process that works on shards holds those of all duplicates, 4 bytes each.
Numbers = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class DuplicateSearch:
    """Leaves out exact and near duplicates; the first of a group stays, whichever worker was first.

    The workers make the signatures of their documents, then all signatures are seen in the order of the documents.

    Attributes:
        ngram: words of an n-gram.
        threshold: Jaccard similarity of the sets of n-grams from which on documents are near duplicates, in (0, 1];
            null: exact duplicates alone (but for case, punctuation and white space).
        permutations: numbers of a signature; more make the estimate more exact.
    """

    ngram: int = 5
    threshold: float | None = 0.8
    permutations: int = 128

    def __post_init__(self) -> None:
        from bertlab.corpus.duplicates import Deduplicator

        Deduplicator(self.ngram, self.threshold, self.permutations).close()  # refuses what it does not accept

    @property
    def _permutations(self) -> int:
        return 0 if self.threshold is None else self.permutations

    def signatures(self, texts: Iterable[str]) -> bytes:
        """The signatures of documents, one after another."""
        from bertlab.corpus.signatures import TextSignature

        sign = TextSignature(self.ngram, self._permutations)
        return b"".join(sign(text) for text in texts)

    def drop(self, shards: Iterable[bytes], folder: Path) -> tuple[dict[int, Numbers], Counter[str]]:
        """Find the duplicates.

        Args:
            shards: the signatures of each shard, in order.
            folder: for temporary files.

        Returns:
            Of each shard that has some, the numbers of the documents to leave out, ascending; and how many there
            are: `exact`, `near`.
        """
        from bertlab.corpus.duplicates import Deduplicator

        owners: list[int] = [0]  # the first document of each shard
        with Deduplicator(self.ngram, self.threshold, self.permutations, folder) as search:
            size = search.signature.size
            for signatures in shards:
                for number in range(len(signatures) // size):
                    search.add(owners[-1] + number, signatures[number * size : (number + 1) * size])
                owners.append(owners[-1] + len(signatures) // size)
            found = search.decide()
        bounds = np.searchsorted(found.dropped, owners).tolist()
        dropped = {
            shard: (found.dropped[start:stop] - owners[shard]).astype(np.uint32)
            for shard, (start, stop) in enumerate(pairwise(bounds))
            if stop > start
        }
        return dropped, Counter(exact=found.exact, near=found.near)

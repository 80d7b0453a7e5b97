"""A text as a fixed number of bytes, in which equal texts are equal and like texts agree in part."""

from __future__ import annotations

import hashlib
from typing import Any, cast

import numpy as np
import rensa

from bertlab.corpus.words import words

EXACT_BYTES = 16
_SEED = 42
# A compiled module, of which a type checker knows no names.
_MinHash = cast(Any, rensa).RMinHash


class TextSignature:
    """Fingerprint of a text for finding duplicates: a hash of its words, then its MinHash.

    The MinHash (Broder 1997, "On the resemblance and containment of documents") of the set of word n-grams: two
    texts agree in each of its numbers with the probability of their Jaccard similarity. Word 5-grams are those of
    Lee et al. 2022, arXiv:2107.06499, appendix A. Letter case, punctuation and white space play no part. By `rensa`
    (fast similarity sketching, arXiv:1704.04370: each number is an unbiased vote, as with MinHash of independent
    permutations); chosen before datasketch for its speed (figures in experiments/corpus_cleaning). Signatures of
    different settings, or of different major versions of `rensa`, must not be compared.

    Pure, deterministic and picklable: processes can share it.

    Args:
        ngram: words of an n-gram, at least 1; a text of fewer words is one n-gram.
        permutations: numbers of the MinHash, 4 bytes each; 0 finds exact duplicates only.

    Raises:
        ValueError: a bad argument.
    """

    def __init__(self, ngram: int = 5, permutations: int = 128) -> None:
        if ngram < 1:
            raise ValueError(f"ngram: {ngram} is not a positive number.")
        if permutations < 0:
            raise ValueError(f"permutations: {permutations} is less than 0.")
        self.ngram, self.permutations = ngram, permutations

    @property
    def size(self) -> int:
        """Bytes of a signature."""
        return EXACT_BYTES + 4 * self.permutations

    def __call__(self, text: str) -> bytes:
        """The signature of `text`, `size` bytes."""
        # UTF-8 has no lone surrogates: they become question marks.
        text = text.encode("utf-8", "replace").decode()
        parts = words(text.casefold())
        # A text of signs alone has no words: it is equal to the same signs only.
        normalised = " ".join(parts or text.split())
        exact = hashlib.blake2b(normalised.encode(), digest_size=EXACT_BYTES).digest()
        if not self.permutations:
            return exact
        sketch = _MinHash(num_perm=self.permutations, seed=_SEED)
        sketch.update(self._ngrams(parts) if parts else [normalised])
        return exact + np.array(sketch.digest(), dtype="<u4").tobytes()

    def _ngrams(self, parts: list[str]) -> list[str]:
        last = max(0, len(parts) - self.ngram)
        return [" ".join(parts[at : at + self.ngram]) for at in range(last + 1)]


def similarity(first: bytes, second: bytes) -> float:
    """The Jaccard similarity of two texts as their signatures estimate it; 1 where only the exact hash is there.

    >>> sign = TextSignature(ngram=1, permutations=256)
    >>> similarity(sign("a b c d"), sign("A, b, c: d!"))
    1.0
    """
    ours, theirs = (np.frombuffer(one, dtype="<u4", offset=EXACT_BYTES) for one in (first, second))
    return float((ours == theirs).mean()) if len(ours) else float(first == second)

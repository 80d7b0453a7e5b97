"""Which stretches of text an example takes: sentence pairs as Google's BERT makes them, and two other rules.

After `create_instances_from_document` of google-research/bert, whose facts hold here:

- a document's target length is what fits, or with a small probability uniform from 2 to that (drawn once a
  document, as there);
- sentences gather until the target is reached or the document ends; the first k of n are segment A, k uniform;
- *next sentence* (Devlin et al. 2019): with n = 1 or probability 1/2, B is random: from another document, from a
  random sentence on, until the target is filled; what A's chunk has left is used again next;
- pairs that are too long lose one token at a time from the longer segment, at its front or back.

One deviation: Google tries ten times to find another document and then takes its own, under the label of
another. Here it is drawn from the others alone, and one document alone is an error. Nor is B of another part of a long
text that was divided into several documents.

*Sentence order* (Lan et al. 2020, section 3.1) takes B from A's chunk always, and swaps the two with probability 1/2.
A chunk of one sentence is divided within it, at random; of one token, it gives no example. (The published code takes
a random B there, which mixes the two tasks.)

*None* takes whole sentences of one document, as many as fit: DOC-SENTENCES of Liu et al. 2019 (RoBERTa), which they
found best and gave up for the changing lengths of its batches only, which cost nothing without padding. A sentence
that is longer than an example goes on in the next one.

Every stretch is a run of neighbouring tokens of the corpus, so an example is two starts and two lengths.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bertlab.corpus.compiled import Numbers, compiled
from bertlab.corpus.examples import Examples
from bertlab.corpus.random_numbers import Bits, below, chance, draw, permuted
from bertlab.corpus.token_store import TokenStore

NONE, NEXT_SENTENCE, SENTENCE_ORDER = 0, 1, 2
#: Of a split whose documents are a text each.
EACH_ITS_OWN = np.zeros((0, 2), dtype=np.int64)
TASKS = {"none": NONE, "next_sentence": NEXT_SENTENCE, "sentence_order": SENTENCE_ORDER}


class PairRules(NamedTuple):
    """How examples are made.

    Attributes:
        task: NONE, NEXT_SENTENCE or SENTENCE_ORDER.
        tokens: of text in an example at most, at least 2.
        short_fraction: probability that a document's target length is uniform in [2, tokens].
    """

    task: int
    tokens: int
    short_fraction: float


class Texts(NamedTuple):
    """The documents of a split, in the arrays of a token store.

    Attributes:
        documents: (n,) int64 numbers of the documents that belong to the split.
        document_starts: offsets of all documents into the sentences.
        sentence_starts: offsets of all sentences into the tokens.
        alike: (n, 2) int64 for each of `documents` the first place in it of a document of the same text, and the first
            place behind them; `EACH_ITS_OWN` where no two are of one text.
    """

    documents: npt.NDArray[np.int64]
    document_starts: npt.NDArray[np.int64]
    sentence_starts: npt.NDArray[np.int64]
    alike: npt.NDArray[np.int64] = EACH_ITS_OWN


def texts_of(store: TokenStore, documents: npt.NDArray[np.int64]) -> Texts:
    """Those documents of a store that belong to a split.

    Args:
        store: of the texts.
        documents: (n,) ascending.
    """
    alike = EACH_ITS_OWN
    if store.document_texts is not None:
        of_place = store.document_texts[documents]
        sides = [np.searchsorted(of_place, of_place, side=side) for side in ("left", "right")]
        alike = np.stack(sides, axis=1).astype(np.int64)
    return Texts(documents, store.document_starts, store.sentence_starts, alike)


@compiled
def make_examples(
    texts: Texts, rules: PairRules, key: Bits, position: int, wanted: int, write: bool, out: Examples
) -> tuple[int, int]:
    """Go through documents in the order that belongs to `key` until `wanted` examples are made, or all documents.

    Args:
        texts: the split.
        rules: see `PairRules`.
        key: of the pass over the corpus; a document's examples depend on it and on the document alone.
        position: how many documents of the pass come before.
        wanted: no further document is begun when there are so many examples.
        write: False only counts, several times faster.
        out: room for the examples, where they are written.

    Returns:
        The position after the last document, and how many examples were made.
    """
    made = 0
    count = len(texts.documents)
    order = draw(key, 0)
    own = draw(key, 1)
    while position < count and made < wanted:
        place = permuted(position, count, order)
        made = _of_document(texts, rules, place, draw(own, place), made, write, out)
        position += 1
    return position, made


@compiled
def _of_document(
    texts: Numbers, rules: PairRules, place: int, key: Bits, made: int, write: bool, out: Numbers
) -> int:
    """Make the examples of one document; returns how many there are then."""
    document = texts.documents[place]
    sentence, stop = texts.document_starts[document], texts.document_starts[document + 1]
    target = rules.tokens
    if chance(draw(key, 0)) < rules.short_fraction:
        target = 2 + below(draw(key, 1), rules.tokens - 1)
    if rules.task == NONE:
        return _contiguous(texts.sentence_starts, sentence, stop, target, made, write, out)
    chunk = 1
    while sentence < stop:
        own = draw(key, 1 + chunk)
        chunk += 1
        end = _end_of_chunk(texts.sentence_starts, sentence, stop, target)
        size = end - sentence
        first = sentence + (1 if size == 1 else 1 + below(draw(own, 0), size - 1))
        coin = (draw(own, 1) >> np.uint64(63)) == np.uint64(0)
        if rules.task == SENTENCE_ORDER:
            tokens = texts.sentence_starts[end] - texts.sentence_starts[sentence]
            if size > 1 or tokens > 1:
                if write:
                    _write_ordered(
                        texts.sentence_starts, sentence, first, end, coin, rules.tokens, own, made, out
                    )
                made += 1
            sentence = end
        else:
            is_random = size == 1 or coin
            if write:
                _write_pair(texts, rules, place, sentence, first, end, is_random, target, own, made, out)
            made += 1
            sentence = first if is_random else end
    return made


@compiled
def _end_of_chunk(sentence_starts: Numbers, sentence: int, stop: int, target: int) -> int:
    """The sentence after those that reach the target, or the end of the document."""
    limit = sentence_starts[sentence] + target
    end = sentence + 1
    while end < stop and sentence_starts[end] < limit:
        end += 1
    return end


@compiled
def _write_pair(
    texts: Numbers,
    rules: PairRules,
    place: int,
    sentence: int,
    first: int,
    end: int,
    is_random: bool,
    target: int,
    key: Bits,
    row: int,
    out: Numbers,
) -> None:
    """A next sentence pair: A is sentences `sentence` to `first`, B the rest to `end` or random."""
    starts = texts.sentence_starts
    a_start, a_size = starts[sentence], starts[first] - starts[sentence]
    if is_random:
        low, high = place, place + 1
        if len(texts.alike) > 0:
            low, high = texts.alike[place, 0], texts.alike[place, 1]
        other = below(draw(key, 2), len(texts.documents) - (high - low))
        document = texts.documents[other + (high - low) if other >= low else other]
        begin, stop = texts.document_starts[document], texts.document_starts[document + 1]
        first = begin + below(draw(key, 3), stop - begin)
        end = _end_of_chunk(starts, first, stop, target - a_size)
    out.labels[row] = 1 if is_random else 0
    _write_truncated(
        a_start, a_size, starts[first], starts[end] - starts[first], rules.tokens, draw(key, 4), row, out
    )


@compiled
def _write_ordered(
    starts: Numbers,
    sentence: int,
    first: int,
    end: int,
    swapped: bool,
    limit: int,
    key: Bits,
    row: int,
    out: Numbers,
) -> None:
    """A sentence order pair: two neighbouring stretches, swapped or not."""
    begin, stop = starts[sentence], starts[end]
    middle = starts[first] if end - sentence > 1 else begin + 1 + below(draw(key, 0), stop - begin - 1)
    out.labels[row] = 1 if swapped else 0
    if swapped:
        _write_truncated(middle, stop - middle, begin, middle - begin, limit, draw(key, 4), row, out)
    else:
        _write_truncated(begin, middle - begin, middle, stop - middle, limit, draw(key, 4), row, out)


@compiled
def _write_truncated(
    a_start: int, a_size: int, b_start: int, b_size: int, limit: int, key: Bits, row: int, out: Numbers
) -> None:
    """Take tokens away, one at a time from the longer side (B, if they are equal), at its front or back."""
    taken = 0
    while a_size + b_size > limit:
        front = int(np.int64(draw(key, taken) >> np.uint64(63)))
        taken += 1
        if a_size > b_size:
            a_size -= 1
            a_start += front
        else:
            b_size -= 1
            b_start += front
    out.starts[row, 0], out.starts[row, 1] = a_start, b_start
    out.sizes[row, 0], out.sizes[row, 1] = a_size, b_size


@compiled
def _contiguous(
    starts: Numbers,
    sentence: int,
    stop: int,
    target: int,
    made: int,
    write: bool,
    out: Numbers,
) -> int:
    """Whole sentences up to the target; one that is longer is cut at it and goes on in the next example."""
    at = starts[sentence]
    while sentence < stop:
        begin = at
        while sentence < stop and starts[sentence + 1] <= begin + target:
            sentence += 1
            at = starts[sentence]
        if at == begin:
            at = begin + target
        if write:
            out.starts[made, 0], out.sizes[made, 0] = begin, at - begin
        made += 1
    return made

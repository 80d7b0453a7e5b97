"""Which tokens are masked, and by what: drawn anew each time an example is made, a function of its key alone.

Devlin et al. 2019, section 3.1, as google-research/bert's `create_masked_lm_predictions` does it: of an example of n
tokens, [CLS] and [SEP] among them, k = min(limit, max(1, round(rate · n))) are predicted, never a special one; 80 %
become [MASK], 10 % stay, 10 % become any token of the whole vocabulary.

- *token*: exactly k, all equally likely (fewer only where an example has fewer).
- *whole_word*: words in random order, each with all its pieces or not at all; one that would exceed k is skipped, so
  there may be fewer than k, or none; what becomes of a piece is drawn for each. A segment's first piece begins a
  word even where truncation has cut the word (there, a cut piece at the start of B joins the last word of A).
- *span*: Joshi et al. 2020 (SpanBERT), section 3.1: spans of whole words, lengths geometric with p = 0.2 over 1 … 10
  words, which begin at a random word that is not masked yet; a span ends at its segment's end, at a masked word, or
  before a word that would exceed k. What becomes of the pieces is drawn once for a span, as there.

Google fixes masks when data is made, ten times over; here they are new each epoch (Liu et al. 2019, section 4.1).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bertlab.corpus.compiled import Numbers, compiled
from bertlab.corpus.random_numbers import Bits, below, chance, draw

MODES = {"token": 0, "whole_word": 1, "span": 2}
TOKEN, WHOLE_WORD, SPAN = 0, 1, 2
LONGEST_SPAN = 10
_CONTINUES = 0.8  # 1 − p of the geometric distribution
NO_LIMIT = 2**31 - 1


class MaskRules(NamedTuple):
    """How tokens are masked.

    Attributes:
        mode: TOKEN, WHOLE_WORD or SPAN.
        rate: share of an example's tokens that is predicted, in (0, 1).
        limit: predictions of an example at most; NO_LIMIT: as many as the rate gives.
        mask_share: of the predicted tokens that become [MASK].
        random_share: of them that become a random token; the rest stays.
        mask_id: id of [MASK].
        vocabulary_size: random tokens are below it.
    """

    mode: int
    rate: float
    limit: int
    mask_share: float
    random_share: float
    mask_id: int
    vocabulary_size: int


@compiled
def wanted_masks(tokens: int, rules: MaskRules) -> int:
    """The number k of an example of so many tokens, special ones included; halves are rounded to even, as Python does.

    >>> rules = MaskRules(TOKEN, 0.15, NO_LIMIT, 0.8, 0.1, 4, 100)
    >>> [wanted_masks(n, rules) for n in (5, 10, 30, 128, 512)]
    [1, 2, 4, 19, 77]
    """
    return min(rules.limit, max(1, int(np.rint(rules.rate * tokens))))


def count_masks(sizes: npt.NDArray[np.int64], rules: MaskRules) -> npt.NDArray[np.int64]:
    """(E,) how many tokens *token* masking takes of each example, without drawing them.

    Args:
        sizes: (E, 2) tokens of A and B.
        rules: of mode TOKEN.
    """
    text = sizes.sum(axis=1)
    specials = 2 + (sizes[:, 1] > 0)
    wanted = np.minimum(rules.limit, np.maximum(1, np.rint(rules.rate * (text + specials)).astype(np.int64)))
    return np.minimum(wanted, text)


def mask(
    ids: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    keys: npt.NDArray[np.uint64],
    word_starts: npt.NDArray[np.bool_],
    rules: MaskRules,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Mask packed examples in place.

    Args:
        ids: (N,) tokens, [CLS] A [SEP] B [SEP] of each example, or [CLS] A [SEP] where B is empty; changed.
        sizes: (S, 2) tokens of A and B of each.
        keys: (S,) one for each example.
        word_starts: (V,) whether a piece begins a word; empty in mode TOKEN.
        rules: see `MaskRules`.

    Returns:
        (M,) places in `ids` that are to be predicted, ascending, and the (M,) ids that stood there.
    """
    lengths = sizes.sum(axis=1) + 2 + (sizes[:, 1] > 0)
    bound = np.maximum(1, np.rint(rules.rate * lengths).astype(np.int64)).sum()
    places, labels = np.empty(bound, dtype=np.int64), np.empty(bound, dtype=np.int64)
    longest = int(lengths.max(initial=0))
    scratch = np.empty((3, longest + 1), dtype=np.int64)
    found = _mask_all(ids, sizes, keys, word_starts, rules, places, labels, scratch)
    return places[:found], labels[:found]


@compiled
def _mask_all(
    ids: Numbers,
    sizes: Numbers,
    keys: Numbers,
    word_starts: Numbers,
    rules: MaskRules,
    places: Numbers,
    labels: Numbers,
    scratch: Numbers,
) -> int:
    first = found = 0
    for row in range(len(sizes)):
        a_size, b_size = sizes[row, 0], sizes[row, 1]
        length = a_size + b_size + (3 if b_size > 0 else 2)
        begins, order, chosen = scratch[0], scratch[1], scratch[2]
        words = _find_words(ids, first + 1, a_size, word_starts, rules.mode, begins, 0)
        in_a = words
        words = _find_words(ids, first + 2 + a_size, b_size, word_starts, rules.mode, begins, words)
        for word in range(words):
            order[word], chosen[word] = word, -1
        ends = (in_a, words, first + 1 + a_size, first + 2 + a_size + b_size)
        _choose(begins, order, chosen, ends, keys[row], wanted_masks(length, rules), rules.mode)
        for word in range(words):
            if chosen[word] >= 0:
                for place in range(begins[word], _end(begins, word, ends)):
                    places[found], labels[found] = place, ids[place]
                    found += 1
                    unit = chosen[word] if rules.mode == SPAN else place - first
                    ids[place] = _replaced(ids[place], keys[row], unit, place - first, rules)
        first += length
    return found


@compiled
def _find_words(
    ids: Numbers,
    first: int,
    size: int,
    word_starts: Numbers,
    mode: int,
    begins: Numbers,
    words: int,
) -> int:
    """Append the places where the words of a segment begin; in mode TOKEN each token is a word."""
    for place in range(first, first + size):
        if mode == TOKEN or place == first or word_starts[ids[place]]:
            begins[words] = place
            words += 1
    return words


@compiled
def _end(begins: Numbers, word: int, ends: tuple[int, int, int, int]) -> int:
    """The place after the last piece of a word."""
    in_a, words, end_of_a, end_of_b = ends
    if word + 1 == in_a:
        return end_of_a
    return end_of_b if word + 1 == words else begins[word + 1]


@compiled
def _choose(
    begins: Numbers,
    order: Numbers,
    chosen: Numbers,
    ends: tuple[int, int, int, int],
    key: Bits,
    wanted: int,
    mode: int,
) -> None:
    """Set `chosen` of each masked word to the word that its span begins with; the others stay −1."""
    in_a, words = ends[0], ends[1]
    own, lengths = draw(key, 0), draw(key, 1)
    taken = tried = 0
    while tried < words and taken < wanted:
        # The next word of a random order, which is made as far as it is needed (Fisher & Yates).
        other = tried + below(draw(own, tried), words - tried)
        order[tried], order[other] = order[other], order[tried]
        anchor = order[tried]
        stop = anchor + (_span_length(draw(lengths, tried)) if mode == SPAN else 1)
        stop = min(stop, in_a if anchor < in_a else words)
        tried += 1
        word = anchor
        while word < stop and chosen[word] < 0:
            size = _end(begins, word, ends) - begins[word]
            if taken + size > wanted:
                break
            chosen[word] = anchor
            taken += size
            word += 1


@compiled
def _span_length(bits: Bits) -> int:
    """Geometric with p = 0.2, conditioned on at most LONGEST_SPAN words: mean 3.8."""
    rest = chance(bits) * (1.0 - _CONTINUES**LONGEST_SPAN)
    length, weight = 1, 1.0 - _CONTINUES
    while rest >= weight and length < LONGEST_SPAN:
        rest -= weight
        weight *= _CONTINUES
        length += 1
    return length


@compiled
def _replaced(token: int, key: Bits, unit: int, place: int, rules: MaskRules) -> int:
    """What stands in a masked place: decided by the `unit` that it belongs to (a piece, or a span)."""
    share = chance(draw(draw(key, 2), unit))
    if share < rules.mask_share:
        return rules.mask_id
    if share < rules.mask_share + rules.random_share:
        return below(draw(draw(key, 3), place), rules.vocabulary_size)
    return token

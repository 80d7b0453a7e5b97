"""What holds for every example of any corpus, and how examples are distributed, against Google's own algorithm."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.corpus import pairs
from bertlab.corpus.example_stream import ExampleStream
from bertlab.corpus.pairs import NEXT_SENTENCE, NONE, SENTENCE_ORDER, Examples, PairRules, Texts
from tests.corpus.comparison import compare, one_pass
from tests.corpus.small_corpus import sizes_like_text, texts_of

corpora = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=12), min_size=2, max_size=12)


def document_of(texts: Texts, token: int) -> int:
    sentence = np.searchsorted(texts.sentence_starts, token, side="right") - 1
    return int(np.searchsorted(texts.document_starts, sentence, side="right") - 1)


def rows(examples: Examples) -> list[tuple[int, int, int, int, int]]:
    """A, its size, B, its size, label."""
    return [
        (int(s[0]), int(n[0]), int(s[1]), int(n[1]), int(label))
        for s, n, label in zip(examples.starts, examples.sizes, examples.labels, strict=True)
    ]


@settings(max_examples=60, deadline=None)
@given(
    sizes=corpora, limit=st.integers(2, 60), seed=st.integers(0, 1000), short=st.sampled_from([0.0, 0.1, 1.0])
)
def test_every_next_sentence_pair(sizes: list[list[int]], limit: int, seed: int, short: float) -> None:
    texts = texts_of(sizes)
    for a, a_size, b, b_size, label in rows(one_pass(texts, PairRules(NEXT_SENTENCE, limit, short), seed)):
        assert a_size >= 1
        assert b_size >= 1
        assert a_size + b_size <= limit
        documents = {document_of(texts, t) for t in range(a, a + a_size)}
        others = {document_of(texts, t) for t in range(b, b + b_size)}
        assert len(documents) == len(others) == 1
        assert (documents != others) == bool(label), "random is another document, next the same"
        if not label:
            assert b >= a + a_size


@settings(max_examples=40, deadline=None)
@given(data=st.data(), sizes=corpora, limit=st.integers(2, 60), seed=st.integers(0, 1000))
def test_no_random_sentence_is_of_the_same_text(
    data: st.DataObject, sizes: list[list[int]], limit: int, seed: int
) -> None:
    """Documents that are parts of one long text are no other documents to each other."""
    begins = data.draw(st.lists(st.booleans(), min_size=len(sizes) - 1, max_size=len(sizes) - 1))
    of_text = np.cumsum([0, *begins])
    plain = texts_of(sizes)
    if of_text[-1] == 0:
        of_text[-1] = 1
    store = SimpleNamespace(**plain._asdict(), document_texts=of_text)
    texts = pairs.texts_of(store, plain.documents)
    rules = PairRules(NEXT_SENTENCE, limit, 0.1)
    for a, _, b, _, label in rows(one_pass(texts, rules, seed)):
        one, other = document_of(texts, a), document_of(texts, b)
        assert (of_text[one] != of_text[other]) if label else one == other
    each = pairs.texts_of(
        SimpleNamespace(**plain._asdict(), document_texts=np.arange(len(sizes))), plain.documents
    )
    assert rows(one_pass(each, rules, seed)) == rows(one_pass(plain, rules, seed))


@settings(max_examples=30, deadline=None)
@given(sizes=corpora, seed=st.integers(0, 1000))
def test_no_text_is_lost_where_nothing_is_too_long(sizes: list[list[int]], seed: int) -> None:
    """Unused sentences of A's document are used again next: with room enough, each token is in A or a next B."""
    texts = texts_of(sizes)
    rules = PairRules(NEXT_SENTENCE, 2000, 0.0)
    used: Counter[int] = Counter()
    for a, a_size, b, b_size, label in rows(one_pass(texts, rules, seed)):
        used.update(range(a, a + a_size))
        if not label:
            used.update(range(b, b + b_size))
    assert used == Counter(range(int(texts.sentence_starts[-1])))


@settings(max_examples=60, deadline=None)
@given(sizes=corpora, limit=st.integers(2, 60), seed=st.integers(0, 1000))
def test_every_sentence_order_pair(sizes: list[list[int]], limit: int, seed: int) -> None:
    texts = texts_of(sizes)
    for a, a_size, b, b_size, label in rows(one_pass(texts, PairRules(SENTENCE_ORDER, limit, 0.1), seed)):
        assert min(a_size, b_size) >= 1
        assert a_size + b_size <= limit
        assert document_of(texts, a) == document_of(texts, a + a_size - 1) == document_of(texts, b)
        assert (b + b_size <= a) if label else (a + a_size <= b)


@settings(max_examples=60, deadline=None)
@given(sizes=corpora, limit=st.integers(2, 60), seed=st.integers(0, 1000))
def test_contiguous_text_takes_every_token_once(sizes: list[list[int]], limit: int, seed: int) -> None:
    texts = texts_of(sizes)
    used: Counter[int] = Counter()
    for a, a_size, _, b_size, label in rows(one_pass(texts, PairRules(NONE, limit, 0.1), seed)):
        assert 1 <= a_size <= limit
        assert (b_size, label) == (0, 0)
        assert document_of(texts, a) == document_of(texts, a + a_size - 1)
        used.update(range(a, a + a_size))
    assert used == Counter(range(int(texts.sentence_starts[-1])))


def test_contiguous_text_keeps_sentences_whole_and_goes_on_in_a_long_one() -> None:
    texts = texts_of([[4, 4, 4, 25, 3]])
    found = sorted(rows(one_pass(texts, PairRules(NONE, 10, 0.0))))
    assert [(a, size) for a, size, *_ in found] == [(0, 8), (8, 4), (12, 10), (22, 10), (32, 8)]


def test_sentence_order_divides_a_lone_sentence_and_leaves_out_a_lone_token() -> None:
    texts = texts_of([[1], [6]])
    found = [rows(one_pass(texts, PairRules(SENTENCE_ORDER, 20, 0.0), seed)) for seed in range(200)]
    assert {len(examples) for examples in found} == {1}
    cuts = Counter(min(a, b) + (b_size if label else a_size) for [(a, a_size, b, b_size, label)] in found)
    assert set(cuts) == {2, 3, 4, 5, 6}
    with pytest.raises(ValueError, match="no document has two tokens in a row"):
        ExampleStream(texts_of([[1], [1]]), PairRules(SENTENCE_ORDER, 20, 0.0), 0)


def test_one_document_alone_is_an_error() -> None:
    with pytest.raises(
        ValueError, match=r"there are 1 documents .* and 2 are needed: a random next sentence"
    ):
        ExampleStream(texts_of([[5, 5]]), PairRules(NEXT_SENTENCE, 20, 0.0), 0)


def test_truncation_takes_from_the_longer_side_front_or_back() -> None:
    """Two documents of one sentence of 9 and 4 tokens: both pairs are random, 6 tokens are left."""
    texts = texts_of([[9], [4]])
    fronts = Counter()
    for seed in range(2000):
        for a, a_size, b, b_size, _ in rows(one_pass(texts, PairRules(NEXT_SENTENCE, 6, 0.0), seed)):
            assert (a_size, b_size) == (3, 3)
            long, short = (a, b - 9) if a < 9 else (b, a - 9)
            fronts[long, short] += 1
    # Of 6 tokens taken from the long side, and 1 from the short one, each is a coin of its own.
    total = sum(fronts.values())
    for long in range(7):
        share = sum(n for (at, _), n in fronts.items() if at == long) / total
        assert share == pytest.approx([1, 6, 15, 20, 15, 6, 1][long] / 64, abs=0.025)
    assert sum(n for (_, at), n in fronts.items() if at) / total == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("length", "short"), [(32, 0.1), (128, 0.1), (128, 0.0), (128, 1.0)])
def test_examples_are_distributed_as_googles(length: int, short: float) -> None:
    """Passes over one corpus by both: each mean differs by less than four standard errors of the difference."""
    compare(sizes_like_text(200), length, short, passes=25)

"""What holds for every example of any corpus, and how examples are distributed, against Google's own algorithm."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.corpus.example_stream import ExampleStream, Pass
from bertlab.corpus.pairs import NEXT_SENTENCE, NONE, SENTENCE_ORDER, Examples, PairRules, Texts
from bertlab.corpus.random_numbers import key_of
from tests.corpus.google_reference import Pair, all_pairs, documents_of
from tests.corpus.small_corpus import sizes_like_text, texts_of

corpora = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=12), min_size=2, max_size=12)


def one_pass(texts: Texts, rules: PairRules, seed: int = 0) -> Examples:
    plan = Pass(texts, rules, key_of(seed))
    return plan.examples(0, len(plan))


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


def facts(pairs: list[Pair]) -> dict[str, float]:
    a, b = np.array([len(p.a) for p in pairs]), np.array([len(p.b) for p in pairs])
    return summary(a, b, np.array([p.is_random for p in pairs]))


def summary(a: np.ndarray, b: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    total = a + b
    return {
        "examples": len(a),
        "random B": labels.mean(),
        "tokens of A": a.mean(),
        "tokens of B": b.mean(),
        "B of random": b[labels > 0].mean(),
        "A of random": a[labels > 0].mean(),
        "full": (total == total.max()).mean(),
        "median": float(np.median(total)),
        "spread of A": a.std(),
    }


@pytest.mark.parametrize(("length", "short"), [(32, 0.1), (128, 0.1), (128, 0.0), (128, 1.0)])
def test_examples_are_distributed_as_googles(length: int, short: float) -> None:
    """Passes over one corpus by both: each mean differs by less than four standard errors of the difference."""
    sizes = sizes_like_text(200)
    documents, texts, passes = documents_of(sizes), texts_of(sizes), 25
    rules = PairRules(NEXT_SENTENCE, length - 3, short)
    theirs = [facts(all_pairs(documents, length, short, random.Random(seed))) for seed in range(passes)]
    ours = [
        summary(made.sizes[:, 0], made.sizes[:, 1], made.labels)
        for made in (one_pass(texts, rules, seed) for seed in range(4 * passes))
    ]
    print(f"\nlength {length}, short {short}   bertlab   Google's   standard errors apart")
    for name in theirs[0]:
        mine, google = (np.array([found[name] for found in all_of]) for all_of in (ours, theirs))
        error = np.sqrt(mine.var() / len(mine) + google.var() / len(google))
        apart = (mine.mean() - google.mean()) / max(error, 1e-9)
        print(f"  {name:<14}{mine.mean():>16.3f}{google.mean():>11.3f}{apart:>10.2f}")
        assert abs(apart) < 4.0, name
        assert mine.mean() == pytest.approx(google.mean(), rel=0.1), name

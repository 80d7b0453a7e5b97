from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.corpus.masking import MODES, NO_LIMIT, SPAN, TOKEN, WHOLE_WORD, MaskRules, count_masks, mask
from bertlab.corpus.random_numbers import key_of

CLS, SEP, MASK, V = 1, 2, 3, 1000
STARTS = np.arange(V) % 3 != 2  # every third id goes on with a word


def rules(mode: int, rate: float = 0.15, limit: int = NO_LIMIT) -> MaskRules:
    return MaskRules(mode, rate, limit, 0.8, 0.1, MASK, V)


def packed(sizes: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    parts = []
    for a, b in sizes.tolist():
        parts += [[CLS], rng.integers(5, V, a), [SEP]] + ([rng.integers(5, V, b), [SEP]] if b else [])
    return np.concatenate(parts).astype(np.int64)


def keys_of(count: int, seed: int) -> np.ndarray:
    return np.array([key_of(seed, n) for n in range(count)], dtype=np.uint64)


@settings(max_examples=80, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60)), min_size=1, max_size=6),
    mode=st.sampled_from(sorted(MODES.values())),
    rate=st.sampled_from([0.05, 0.15, 0.4, 0.99]),
    limit=st.sampled_from([1, 3, 20, NO_LIMIT]),
    seed=st.integers(0, 99),
)
def test_every_masked_batch(
    sizes: list[tuple[int, int]], mode: int, rate: float, limit: int, seed: int
) -> None:
    shape = np.array(sizes, dtype=np.int64)
    before = packed(shape, seed)
    after, how = before.copy(), rules(mode, rate, limit)
    places, labels = mask(after, shape, keys_of(len(shape), seed), STARTS, how)
    assert (np.diff(places) > 0).all()
    assert (before[places] == labels).all()
    assert not np.isin(labels, [CLS, SEP]).any(), "no special token is masked"
    kept = np.setdiff1d(np.arange(len(before)), places)
    assert (after[kept] == before[kept]).all()
    first = 0
    for row, (a, b) in enumerate(sizes):
        length = a + b + (3 if b else 2)
        wanted = min(limit, max(1, round(rate * length)))
        mine = places[(places >= first) & (places < first + length)]
        assert len(mine) <= min(wanted, a + b)
        if mode == TOKEN:
            assert len(mine) == min(wanted, a + b) == count_masks(shape[row : row + 1], how)[0]
        else:  # pieces of a word go together
            segments = [(first + 1, first + 1 + a), (first + 2 + a, first + 2 + a + b)]
            for begin, stop in segments:
                for place in range(begin + 1, stop):
                    if not STARTS[before[place]]:
                        assert (place in mine) == (place - 1 in mine)
        first += length


def test_shares_and_uniform_places() -> None:
    shape = np.full((4000, 2), 30, dtype=np.int64)
    for mode in (TOKEN, WHOLE_WORD, SPAN):
        before = packed(shape, 0)
        after = before.copy()
        places, labels = mask(after, shape, keys_of(len(shape), 1), STARTS, rules(mode))
        masked = (after[places] == MASK).mean()
        kept = (after[places] == labels).mean()
        tolerance = 0.03 if mode == SPAN else 0.01  # of a span all pieces together: fewer coins
        assert masked == pytest.approx(0.8, abs=tolerance)
        assert kept == pytest.approx(0.1, abs=tolerance)
        drawn = after[places][(after[places] != MASK) & (after[places] != labels)]
        assert drawn.min() < 5, "random tokens come from the whole vocabulary, special ones too"
        assert drawn.mean() == pytest.approx(V / 2, rel=0.05)
        where = np.bincount(places % 63, minlength=63)
        text = [*range(1, 31), *range(32, 62)]
        assert where.sum() == where[text].sum()
        if mode == TOKEN:
            assert where[text].min() > 0.85 * where[text].mean()
            assert where[text].max() < 1.15 * where[text].mean()
            assert len(places) == 4000 * 9


def test_each_piece_of_a_word_has_a_coin_of_its_own_and_a_span_has_one() -> None:
    """Of two pieces with a coin each, one of both becomes [MASK] in 2 · 0.8 · 0.2 of the cases."""
    shape = np.full((4000, 2), 30, dtype=np.int64)
    for mode, mixed in ((WHOLE_WORD, 0.32), (SPAN, 0.0)):
        before = packed(shape, 0)
        after = before.copy()
        places, labels = mask(after, shape, keys_of(len(shape), 1), STARTS, rules(mode))
        masked = after[places] == MASK
        of_one_word = (np.diff(places) == 1) & ~STARTS[labels[1:]]
        assert of_one_word.sum() > 5000
        differ = (masked[1:] != masked[:-1])[of_one_word]
        assert differ.mean() == pytest.approx(mixed, abs=0.02)


def test_a_word_longer_than_k_is_skipped_and_nothing_may_be_left() -> None:
    shape = np.array([[6, 0]], dtype=np.int64)
    ids = np.array([CLS, 6, 8, 8, 8, 8, 8, SEP])  # one word of six pieces; k is 1
    places, labels = mask(ids, shape, keys_of(1, 0), STARTS, rules(WHOLE_WORD))
    assert (len(places), len(labels)) == (0, 0)
    ids = np.array([CLS, 6, 8, 8, 8, 8, 9, SEP])
    for seed in range(20):
        places, _ = mask(ids.copy(), shape, keys_of(1, seed), STARTS, rules(WHOLE_WORD))
        assert places.tolist() == [6]


def test_span_lengths_are_geometric() -> None:
    """Words of one piece, masks for one span in a long text: P(l) ∝ 0.8^(l−1), l ≤ 10, mean 3.8 (Joshi et al.)."""
    shape = np.full((6000, 2), [3000, 0], dtype=np.int64)[:600]
    starts = np.ones(V, dtype=np.bool_)
    lengths = []
    for seed in range(4):
        ids = packed(shape, seed)
        places, _ = mask(ids, shape, keys_of(len(shape), seed), starts, rules(SPAN, 0.03))
        runs = np.split(places, np.flatnonzero(np.diff(places) != 1) + 1)
        lengths += [len(run) for run in runs]
    counts = np.bincount(lengths, minlength=30)[1:]
    shares = counts / counts.sum()
    expected = 0.8 ** np.arange(10) * 0.2 / (1 - 0.8**10)
    print(
        "\nspan length", *range(1, 11), "\nfound   ", *shares[:10].round(3), "\nexpected", *expected.round(3)
    )
    # Spans next to each other look like one, and the last of a text is cut at k: 3 % of the words are masked.
    assert shares[:8] == pytest.approx(expected[:8], abs=0.025)
    assert np.mean(lengths) == pytest.approx(3.8, rel=0.08)


def test_masks_are_a_function_of_the_key() -> None:
    shape = np.array([[30, 20], [10, 5], [40, 40]], dtype=np.int64)
    before, keys = packed(shape, 0), keys_of(3, 5)
    together = before.copy()
    places, _ = mask(together, shape, keys, STARTS, rules(SPAN))
    first = 53 + 18
    alone = before[first:].copy()
    own, _ = mask(alone, shape[2:], keys[2:], STARTS, rules(SPAN))
    assert (alone == together[first:]).all()
    assert (own + first == places[places >= first]).all()
    other = before.copy()
    mask(other, shape, keys_of(3, 6), STARTS, rules(SPAN))
    assert (other != together).any()

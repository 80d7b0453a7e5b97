"""Examples of bertlab and of Google's algorithm over the same corpus, side by side."""

from __future__ import annotations

import random

import numpy as np
import pytest

from bertlab.corpus.example_stream import Pass
from bertlab.corpus.pairs import NEXT_SENTENCE, Examples, PairRules, Texts
from bertlab.corpus.random_numbers import key_of
from tests.corpus.google_reference import Pair, all_pairs, documents_of
from tests.corpus.small_corpus import texts_of


def one_pass(texts: Texts, rules: PairRules, seed: int = 0) -> Examples:
    plan = Pass(texts, rules, key_of(seed))
    return plan.examples(0, len(plan))


def facts(pairs: list[Pair]) -> dict[str, float]:
    a, b = np.array([len(p.a) for p in pairs]), np.array([len(p.b) for p in pairs])
    return summary(a, b, np.array([p.is_random for p in pairs]))


def summary(a: np.ndarray, b: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    total = a + b
    room = total.max()
    return {
        "examples": len(a),
        "random B": labels.mean(),
        "tokens of A": a.mean(),
        "tokens of B": b.mean(),
        "B of random": b[labels > 0].mean(),
        "A of random": a[labels > 0].mean(),
        "full": (total == room).mean(),
        **{f"below {n}/4": (total < n * room / 4).mean() for n in (1, 2, 3)},
        "median": float(np.median(total)),
        "spread of A": a.std(),
    }


def compare(sizes: list[list[int]], length: int, short: float, passes: int) -> dict[str, float]:
    """Each mean over passes differs by less than four standard errors of the difference; returns bertlab's."""
    documents, texts = documents_of(sizes), texts_of(sizes)
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
        assert mine.mean() == pytest.approx(google.mean(), rel=0.1, abs=0.02), name
    return {name: float(np.mean([found[name] for found in ours])) for name in theirs[0]}

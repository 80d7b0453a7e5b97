"""What the cleaning does to real news."""

from __future__ import annotations

import pytest

from bertlab.corpus.cleaning import Cleaner, Rejection
from bertlab.corpus.duplicates import Deduplicator
from bertlab.corpus.personal_data import PersonalData
from bertlab.corpus.sentences import SentenceSplitter
from experiments.corpus_cleaning.run import news


@pytest.mark.packaged
def test_news() -> None:
    texts = news()
    assert len(texts) == 3824
    with Deduplicator() as deduplicator:
        for index, text in enumerate(texts):
            deduplicator.add(index, deduplicator.signature(text))
        found = deduplicator.decide()
    assert found.exact == 42
    assert found.near <= 3
    assert (found.kept < found.dropped).all()

    cleaned = [Cleaner(min_words=20)(text) for text in texts[:500]]
    kept = [text for text in cleaned if isinstance(text, str)]
    assert 450 < len(kept) < 500
    assert {text for text in cleaned if isinstance(text, Rejection)} <= {
        Rejection.EMPTY,
        Rejection.TOO_FEW_WORDS,
    }
    assert all(Cleaner()(text) == text for text in kept[:50])

    replaced = [one for text in kept for one in PersonalData().replace(text).found]
    phones = [original for kind, original in replaced if kind == "phone"]
    assert {kind for kind, _ in replaced} == {"email", "phone"}
    assert "+44-1256-305-220" in phones
    assert len(phones) < 10, "years, prices, dates and scores stay"

    sentences = [sentence for text in kept for sentence in SentenceSplitter().split(text)]
    long = sum(len(sentence) > 500 for sentence in sentences)
    assert long < 0.002 * len(sentences)
    assert 100 < sum(map(len, sentences)) / len(sentences) < 160

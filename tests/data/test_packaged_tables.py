from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from bertlab.data.packaged_tables import packaged_tables, reuters, sentiment, sms_spam


def test_sms_spam_takes_swallowed_rows_out_of_giant_cells() -> None:
    raw = ',spam,text\n0,0,plain\n1,1,"win, now\nham\tswallowed \nspam\tmoney\nmore"\n2,0,last\n'
    assert sms_spam(raw).to_pylist() == [
        {"text": "plain", "label": "ham"},
        {"text": "win, now", "label": "spam"},
        {"text": "swallowed", "label": "ham"},
        {"text": "money\nmore", "label": "spam"},
        {"text": "last", "label": "ham"},
    ]


def test_sentiment_classes() -> None:
    table = sentiment("id\tsentiment\ttext\r\n1\t-0.5\tmeh\r\n2\t-0.51\tbad\r\n3\t2.25\tgood\r\n")
    assert table["label"].to_pylist() == ["neutral", "negative", "positive"]
    assert table["rating"].to_pylist() == [-0.5, -0.51, 2.25]


def test_reuters_header() -> None:
    table = reuters("Category\tText\nd\tstring\nclass\t\n\nearn\tnet rose\nacq\tbuys unit\n")
    assert table.to_pylist() == [{"text": "net rose", "label": "earn"}, {"text": "buys unit", "label": "acq"}]


FACTS: dict[str, dict[str, Any]] = {
    "sms_spam": {"train": (5574, {"ham": 4827, "spam": 747})},
    "sentiment_movies": {"train": (10605, {"negative": 5061, "neutral": 562, "positive": 4982})},
    "sentiment_amazon": {"train": (3708, {"negative": 1218, "neutral": 765, "positive": 1725})},
    "sentiment_tweets": {"train": (4200, {"negative": 1062, "neutral": 838, "positive": 2300})},
    "sentiment_nyt": {"train": (5190, {"negative": 1688, "neutral": 2402, "positive": 1100})},
    "reuters_r8": {"train": (5485, {"earn": 2840, "grain": 41}), "test": (2189, {"earn": 1083, "grain": 10})},
    "reuters_r52": {"train": (6532, {"earn": 2840, "platinum": 1}), "test": (2568, {"earn": 1083})},
}


@pytest.mark.packaged
@pytest.mark.parametrize("name", FACTS)
def test_facts_of_the_real_data(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BERTLAB_CACHE")  # the user's own: downloaded once
    tables = packaged_tables(f"packaged:{name}")
    assert list(tables) == list(FACTS[name])
    for split, (size, classes) in FACTS[name].items():
        counts = Counter(tables[split]["label"].to_pylist())
        assert tables[split].num_rows == size
        assert {label: counts[label] for label in classes} == classes
        assert all(text.strip() for text in tables[split]["text"].to_pylist())


@pytest.mark.packaged
def test_sms_spam_has_5160_different_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BERTLAB_CACHE")
    table = packaged_tables("packaged:sms_spam")["train"]
    labels = dict(zip(table["text"].to_pylist(), table["label"].to_pylist(), strict=True))
    assert Counter(labels.values()) == {"ham": 4518, "spam": 642}


@pytest.mark.packaged
def test_tweets_ner_is_what_it_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BERTLAB_CACHE")
    table = packaged_tables("packaged:tweets_ner", "words")["train"]
    tags = [tag for sentence in table["tags"].to_pylist() for tag in sentence]
    assert (table.num_rows, len(tags)) == (2394, 46469)
    assert sum(tag.startswith("B-") for tag in tags) == 1496
    assert len({tag[2:] for tag in tags if tag != "O"}) == 10
    assert len({tuple(words) for words in table["words"].to_pylist()}) == 2295

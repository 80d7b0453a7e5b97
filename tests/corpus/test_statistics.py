"""The facts of BERT's pretraining data, on 400 real news articles in real word pieces, as a table."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from transformers import AutoTokenizer

from bertlab.corpus.example_stream import Pass
from bertlab.corpus.masking import NO_LIMIT, TOKEN, MaskRules, mask
from bertlab.corpus.packaged_prose import news
from bertlab.corpus.packed_examples import lengths_of, pack
from bertlab.corpus.pairs import NEXT_SENTENCE, NONE, PairRules
from bertlab.corpus.random_numbers import draws, key_of
from bertlab.corpus.sentences import SentenceSplitter
from bertlab.sources.models import model_folder
from bertlab.sources.packaged import fetch
from tests.corpus.comparison import compare
from tests.corpus.small_corpus import texts_of

CLS, SEP, MASK, V = 101, 102, 103, 30522


@pytest.fixture(scope="module")
def articles() -> list[list[list[int]]]:
    tokenizer = AutoTokenizer.from_pretrained(model_folder("packaged:minilm_l6_v2"))
    splitter = SentenceSplitter()
    documents = [splitter.split(text) for text in islice(news(fetch("news")), 400)]
    flat = [sentence for document in documents for sentence in document]
    ids = iter(tokenizer(flat, add_special_tokens=False)["input_ids"])
    found = [[piece for _ in document if (piece := next(ids))] for document in documents]
    return [document for document in found if document]


@pytest.mark.packaged
@pytest.mark.parametrize(("length", "passes"), [(128, 10), (512, 20)])
def test_facts(articles: list[list[list[int]]], length: int, passes: int) -> None:
    sizes = [[len(sentence) for sentence in document] for document in articles]
    tokens = np.array(
        [t for document in articles for sentence in document for t in sentence], dtype=np.uint16
    )
    texts, room = texts_of(sizes), length - 3
    masked, replaced = [], np.zeros(3)
    for epoch in range(8):
        plan = Pass(texts, PairRules(NEXT_SENTENCE, room, 0.1), key_of(0, epoch))
        examples = plan.examples(0, len(plan))
        keys = np.empty(len(plan), dtype=np.uint64)
        draws(key_of(1, epoch), 0, keys)
        ids, types = pack(tokens, examples, CLS, SEP)
        before = ids.copy()
        rules = MaskRules(TOKEN, 0.15, NO_LIMIT, 0.8, 0.1, MASK, V)
        places, stood = mask(ids, examples.sizes, keys, np.zeros(0, dtype=np.bool_), rules)
        lengths = lengths_of(examples)
        row = np.repeat(np.arange(len(plan)), lengths)
        counts = np.bincount(row[places], minlength=len(plan))
        assert (counts == np.maximum(1, np.rint(0.15 * lengths))).all()
        assert not np.isin(stood, [CLS, SEP]).any()
        assert (before[places] == stood).all()
        assert lengths.max() <= length
        assert (np.bincount(row, types) == examples.sizes[:, 1] + 1).all(), "B [SEP] is segment 1"
        replaced += [(ids[places] == MASK).sum(), (ids[places] == stood).sum(), len(places)]
        masked.append(counts / lengths)
    found = compare(sizes, length, short=0.1, passes=passes)
    share = replaced / replaced[2]
    print(f"  masked {np.concatenate(masked).mean():.4f}; [MASK] {share[0]:.4f}, kept {share[1]:.4f}")
    assert share[0] == pytest.approx(0.8, abs=0.005)
    assert share[1] == pytest.approx(0.1, abs=0.005)
    assert np.concatenate(masked).mean() == pytest.approx(0.15, abs=0.01)
    assert 0.5 < found["random B"] < 0.65, "a little over half"


@pytest.mark.packaged
def test_lengths_of_documents_that_are_cut_short(articles: list[list[list[int]]]) -> None:
    """With a target drawn for every article, lengths spread as those of Google's examples do: by quarters too."""
    sizes = [[len(sentence) for sentence in document] for document in articles]
    found = compare(sizes, 128, short=1.0, passes=6)
    assert found["full"] < 0.2


def test_target_lengths() -> None:
    """Documents of one-token sentences, without a second segment: the first example shows the target exactly."""
    texts = texts_of([[1] * 130] * 6000)
    plan = Pass(texts, PairRules(NONE, 125, 0.1), key_of(0))
    examples = plan.examples(0, len(plan))
    targets = examples.sizes[examples.starts[:, 0] % 130 == 0, 0]
    short = targets[targets < 125]
    print(f"\nshort {len(short) / 6000:.4f}, from {short.min()} to {short.max()}, mean {short.mean():.1f}")
    assert len(targets) == 6000
    assert len(short) / 6000 == pytest.approx(0.1 * 123 / 124, abs=0.012)  # 3 standard deviations
    assert (short.min(), short.max()) == (2, 124)
    assert short.mean() == pytest.approx(63.0, abs=4.5)

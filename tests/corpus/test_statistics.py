"""The facts of BERT's pretraining data, on 400 real news articles in real word pieces, as a table."""

from __future__ import annotations

import random
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
from tests.corpus.google_reference import all_pairs, documents_of
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
@pytest.mark.parametrize("length", [128, 512])
def test_facts(articles: list[list[list[int]]], length: int) -> None:
    sizes = [[len(sentence) for sentence in document] for document in articles]
    tokens = np.array(
        [t for document in articles for sentence in document for t in sentence], dtype=np.uint16
    )
    texts, room = texts_of(sizes), length - 3
    starts, made, labels, masked, replaced = [], [], [], [], np.zeros(3)
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
        starts.append(examples.starts)
        made.append(examples.sizes)
        labels.append(examples.labels)
        masked.append(counts / lengths)
    ab, is_random = np.concatenate(made), np.concatenate(labels) == 1
    reference = [
        p for seed in range(2) for p in all_pairs(documents_of(sizes), length, 0.1, random.Random(seed))
    ]
    theirs = np.array([[len(p.a), len(p.b)] for p in reference])
    their_random = np.array([p.is_random for p in reference])
    rows = {
        "examples a pass": (len(ab) / 8, len(theirs) / 2),
        "random B": (is_random.mean(), their_random.mean()),
        "full length": ((ab.sum(1) == room).mean(), (theirs.sum(1) == room).mean()),
        "tokens of A": (ab[:, 0].mean(), theirs[:, 0].mean()),
        "tokens of B": (ab[:, 1].mean(), theirs[:, 1].mean()),
        "B where random": (ab[is_random, 1].mean(), theirs[their_random, 1].mean()),
        "A, 10th of 100": (np.quantile(ab[:, 0], 0.1), np.quantile(theirs[:, 0], 0.1)),
        "A, 90th of 100": (np.quantile(ab[:, 0], 0.9), np.quantile(theirs[:, 0], 0.9)),
    }
    print(f"\n{len(sizes)} articles, length {length}:  bertlab   Google's algorithm")
    for name, (ours, google) in rows.items():
        print(f"  {name:<18}{ours:>12.3f}{google:>12.3f}")
        assert ours == pytest.approx(google, rel=0.05), name
    share = replaced / replaced[2]
    print(f"  masked {np.concatenate(masked).mean():.4f}; [MASK] {share[0]:.4f}, kept {share[1]:.4f}")
    assert share[0] == pytest.approx(0.8, abs=0.005)
    assert share[1] == pytest.approx(0.1, abs=0.005)
    assert np.concatenate(masked).mean() == pytest.approx(0.15, abs=0.01)
    assert 0.5 < is_random.mean() < 0.65, "a little over half"


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

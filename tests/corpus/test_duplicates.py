from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.corpus.duplicates import Deduplicator, Duplicates, band_rows
from bertlab.corpus.signature_file import SignatureFile
from bertlab.corpus.signatures import TextSignature, similarity

GENERATOR = np.random.default_rng(0)
VOCABULARY = np.array([f"w{number}" for number in range(5000)])


def document(length: int = 300) -> list[str]:
    return GENERATOR.choice(VOCABULARY, length).tolist()


def edited(words: list[str], edits: int) -> list[str]:
    places = set(GENERATOR.choice(len(words), edits, replace=False).tolist())
    return [f"new{place}" if place in places else word for place, word in enumerate(words)]


def jaccard(first: list[str], second: list[str], ngram: int) -> float:
    one, other = ({tuple(w[i : i + ngram]) for i in range(len(w) - ngram + 1)} for w in (first, second))
    return len(one & other) / len(one | other)


def duplicates(texts: Sequence[str], **options: object) -> Duplicates:
    with Deduplicator(**options) as deduplicator:  # type: ignore[arg-type]
        for index, text in enumerate(texts):
            deduplicator.add(index, deduplicator.signature(text))
        return deduplicator.decide()


def test_the_estimate_is_the_jaccard_similarity() -> None:
    sign = TextSignature(ngram=3, permutations=256)
    for edits in (0, 3, 10, 30, 80):
        first = document()
        second = edited(first, edits)
        true = jaccard(first, second, 3)
        estimate = similarity(sign(" ".join(first)), sign(" ".join(second)))
        assert abs(estimate - true) <= 4 * (true * (1 - true) / 256) ** 0.5 + 1e-9


def test_near_and_exact_and_which_one_stays() -> None:
    base, other = document(), document()
    near = edited(base, 4)
    assert jaccard(base, near, 5) > 0.85
    texts = [base, other, near, [w.upper() + "," for w in base], edited(base, 60), other, edited(near, 1)]
    found = duplicates([" ".join(text) for text in texts])
    assert found.dropped.tolist() == [2, 3, 5, 6]
    assert found.kept.tolist() == [0, 0, 1, 0]
    assert (found.exact, found.near) == (2, 2)
    exact = duplicates([" ".join(text) for text in texts], threshold=None)
    assert exact.dropped.tolist() == [3, 5]
    assert (exact.exact, exact.near) == (2, 0)


def test_recall_and_precision_against_all_pairs() -> None:
    """300 documents and an edit of each: found are those above the threshold, but for the error of the estimate."""
    bases = [document(200) for _ in range(150)]
    copies = [edited(base, int(GENERATOR.integers(0, 12))) for base in bases]
    true = np.array([jaccard(one, two, 5) for one, two in zip(bases, copies, strict=True)])
    found = duplicates([" ".join(text) for text in [*bases, *copies]])
    dropped = np.zeros(300, dtype=bool)
    dropped[found.dropped] = True
    assert not dropped[:150].any()
    assert dropped[150:][true > 0.87].all()
    assert not dropped[150:][true < 0.7].any()
    assert (found.kept == found.dropped - 150).all()
    assert ((true > 0.87).sum(), (true < 0.7).sum()) > (20, 20), "both sides are tried"


@given(groups=st.lists(st.integers(0, 6), max_size=25))
@settings(max_examples=50, deadline=None)
def test_the_first_of_each_group_stays(groups: list[int]) -> None:
    texts = [f"text number {group} " * 3 + "!" * at for at, group in enumerate(groups)]
    found = duplicates(texts)
    first = {group: groups.index(group) for group in groups}
    expected = [at for at, group in enumerate(groups) if first[group] != at]
    assert found.dropped.tolist() == expected
    assert found.kept.tolist() == [first[groups[at]] for at in expected]
    assert found.exact == len(expected)


@given(text=st.text(st.characters(codec=None)))
@settings(max_examples=200, deadline=None)
def test_signature_of_any_text(text: str) -> None:
    sign = TextSignature()
    signature = sign(text)
    assert len(signature) == sign.size == 528
    assert pickle.loads(pickle.dumps(sign))(text) == signature
    assert sign(f"  {text}\n") == signature
    assert similarity(signature, signature) == 1.0


def test_what_a_signature_heeds() -> None:
    sign = TextSignature()
    assert sign("It's LATE!") == sign("it s late")
    assert sign("?!") != sign("...")
    assert sign("我爱北京。") == sign("我爱北京")
    assert sign("one two")[:16] != sign("onetwo")[:16]


def test_indices_with_gaps_and_growing_decisions(tmp_path: Path) -> None:
    with Deduplicator(folder=tmp_path) as deduplicator:
        assert deduplicator.decide().dropped.tolist() == []
        for index, text in ((3, "a b"), (8, "c"), (20, "A, b.")):
            deduplicator.add(index, deduplicator.signature(text))
        assert deduplicator.decide().dropped.tolist() == [20]
        deduplicator.add(21, deduplicator.signature("c"))
        found = deduplicator.decide()
        assert (found.dropped.tolist(), found.kept.tolist()) == ([20, 21], [3, 8])
    assert list(tmp_path.iterdir()) == []


def test_band_length_keeps_the_recall() -> None:
    for threshold in (0.5, 0.7, 0.8, 0.9, 1.0):
        rows = band_rows(threshold, 128)
        assert 1 - (1 - threshold**rows) ** (128 // rows) >= 0.95
    assert band_rows(1.0, 128) == 128


def test_rows_come_back_from_the_file() -> None:
    table = GENERATOR.integers(0, 256, (9000, 80), dtype=np.uint8)
    file = SignatureFile(80)
    for row in table:
        file.append(row.tobytes())
    assert (file.rows(np.array([8999, 0, 4096])) == table[[8999, 0, 4096]]).all()
    assert (file.columns(0, 16) == table[:, :16].copy().view("<u8").T).all()
    hashed = file.columns(16, 44)
    assert hashed.shape == (1, 9000)
    assert len(np.unique(hashed)) == 9000
    file.close()


def test_bad_use() -> None:
    for options, message in (
        ({"threshold": 0.0}, r"threshold: 0.0 is not in \(0, 1\]"),
        ({"permutations": 8}, "permutations: 8 is less than 16"),
        ({"ngram": 0}, "ngram: 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Deduplicator(**options)  # type: ignore[arg-type]
    with Deduplicator() as deduplicator:
        deduplicator.add(4, deduplicator.signature("a"))
        with pytest.raises(ValueError, match="Document 4 comes after document 4"):
            deduplicator.add(4, deduplicator.signature("b"))
        with pytest.raises(ValueError, match="document 5 has 16 bytes instead of 528"):
            deduplicator.add(5, TextSignature(permutations=0)("b"))

"""Scores of entities: those of seqeval, so of conlleval."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

from bertlab.tasks.span_scores import count_spans, scores_of_words, span_scores

NAMES = ("O", "B-x", "I-x", "B-geo-loc", "I-geo-loc", "B-y", "I-y")
PAIRS = st.lists(
    st.lists(st.tuples(*[st.integers(0, 6)] * 2), min_size=1, max_size=9), min_size=1, max_size=6
)


@settings(max_examples=200, deadline=None)
@given(PAIRS)
def test_scores_are_those_of_seqeval(sentences: list[list[tuple[int, int]]]) -> None:
    true, predicted = ([[NAMES[pair[side]] for pair in s] for s in sentences] for side in (0, 1))
    counts = torch.tensor([len(s) for s in sentences])
    flat = torch.tensor([pair for s in sentences for pair in s])
    numbers = torch.arange(len(sentences)).repeat_interleave(counts)
    mine = scores_of_words(flat[:, 0], flat[:, 1], numbers, NAMES)
    if not count_spans(true, predicted):
        assert set(mine.values()) == {0.0}
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of types without an entity
        report = classification_report(true, predicted, output_dict=True, zero_division=0)
        strict = classification_report(
            true, predicted, output_dict=True, zero_division=0, mode="strict", scheme=IOB2
        )
    for name, key in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
        assert mine[f"strict_{name}"] == pytest.approx(strict["micro avg"][key]), key
    for prefix, average in (("", "micro avg"), ("macro_", "macro avg")):
        for name, key in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert mine[prefix + name] == pytest.approx(report[average][key]), (average, key)
    for kind in ("x", "geo-loc", "y"):
        theirs = report.get(kind, {"precision": 0.0, "recall": 0.0, "f1-score": 0.0})
        assert mine[f"precision_{kind}"] == pytest.approx(theirs["precision"])
        assert mine[f"recall_{kind}"] == pytest.approx(theirs["recall"])
        assert mine[f"f1_{kind}"] == pytest.approx(theirs["f1-score"])


def test_by_hand() -> None:
    true = [["B-x", "I-x", "O", "B-y"], ["I-y", "I-y"]]
    predicted = [["B-x", "O", "O", "B-y"], ["B-y", "I-y"]]
    counts = count_spans(true, predicted)
    assert counts == {"x": (0, 1, 1), "y": (2, 2, 2)}
    scores = span_scores(counts, ["x", "y", "z"])
    assert scores["precision"] == scores["recall"] == pytest.approx(2 / 3)
    assert (scores["macro_f1"], scores["f1_x"], scores["f1_y"], scores["f1_z"]) == (0.5, 0.0, 1.0, 0.0)


def test_an_entity_ends_with_its_sentence() -> None:
    words = torch.tensor([1, 2, 2])
    together = scores_of_words(words, words, torch.tensor([0, 0, 0]), NAMES)
    apart = scores_of_words(words, words, torch.tensor([0, 0, 1]), NAMES)
    assert together["f1"] == apart["f1"] == 1.0
    split_wrongly = scores_of_words(words, torch.tensor([1, 2, 1]), torch.tensor([0, 0, 1]), NAMES)
    assert split_wrongly["f1"] == 1.0  # I after the end of a sentence begins an entity, as B does

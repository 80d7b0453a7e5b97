"""Schemes of tags: spans by the rules of conlleval, as seqeval has them, and tags written from spans."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, IOBES, Tokens

from bertlab.tags import Span, all_tags, fits, spans_of, strict_spans_of, tags_of

TAGS = st.one_of(
    st.just("O"), st.tuples(st.sampled_from("BIES"), st.sampled_from(["x", "geo-loc", "y"])).map("-".join)
)


@settings(max_examples=300, deadline=None)
@given(st.lists(TAGS, max_size=12))
def test_spans_are_those_of_seqeval(tags: list[str]) -> None:
    # seqeval's ends are the last words.
    assert spans_of(tags) == [Span(kind, start, end + 1) for kind, start, end in get_entities(tags)]


@pytest.mark.parametrize(("scheme", "theirs"), [("bio", IOB2), ("iobes", IOBES)])
@settings(max_examples=100, deadline=None)
@given(tags=st.lists(TAGS, max_size=12))
def test_strict_spans_are_those_of_seqeval(scheme: Any, theirs: Any, tags: list[str]) -> None:
    tags = [tag for tag in tags if fits(tag, scheme)]
    expected = [Span(found.tag, found.start, found.end) for found in Tokens(tags, theirs).entities]
    assert strict_spans_of(tags, scheme) == expected


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        (["B-x", "I-x", "B-x"], [("x", 0, 2), ("x", 2, 3)]),
        (["I-x", "I-x", "B-x", "O", "I-y"], [("x", 0, 2), ("x", 2, 3), ("y", 4, 5)]),  # iob1
        (["B-x", "E-x", "S-x", "B-y", "I-y", "E-y"], [("x", 0, 2), ("x", 2, 3), ("y", 3, 6)]),  # iobes
        (["B-x", "I-y"], [("x", 0, 1), ("y", 1, 2)]),
        (["O", "O"], []),
        ([], []),
    ],
)
def test_spans_by_hand(tags: list[str], spans: list[tuple[str, int, int]]) -> None:
    assert spans_of(tags) == [Span(*span) for span in spans]


@pytest.mark.parametrize("scheme", ["bio", "iobes"])
@settings(max_examples=100, deadline=None)
@given(tags=st.lists(TAGS, max_size=12))
def test_written_tags_say_the_same_spans(scheme: str, tags: list[str]) -> None:
    written = tags_of(spans_of(tags), len(tags), scheme)
    assert spans_of(written) == spans_of(tags)
    assert set(written) <= set(all_tags(["geo-loc", "x", "y"], scheme))
    assert tags_of(spans_of(written), len(tags), scheme) == written

"""Scores of entities: those that are found whole, with the right type, as conlleval counts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor

from bertlab.tags import Span, kinds_of, scheme_of, spans_of, strict_spans_of


class SpanCounts(NamedTuple):
    """Of one type of entity, or of all.

    Attributes:
        right: entities that are predicted with the words and the type that they have.
        predicted: predicted entities.
        true: entities there are.
    """

    right: int
    predicted: int
    true: int

    @property
    def precision(self) -> float:
        """Share of the predicted entities that are right; 0 where none is predicted."""
        return self.right / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of the entities that are found; 0 where there is none."""
        return self.right / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of the two; 0 where nothing is right."""
        return 2 * self.right / (self.predicted + self.true) if self.right else 0.0


def count_spans(
    true: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    read: Callable[[Sequence[str]], list[Span]] = spans_of,
) -> dict[str, SpanCounts]:
    """The entities of each type in some sentences.

    Args:
        true: tags of each sentence.
        predicted: the same.
        read: the entities that a sentence's tags say.

    >>> count_spans([["B-x", "I-x", "O"], ["B-y"]], [["B-x", "I-x", "O"], ["B-x"]])
    {'x': SpanCounts(right=1, predicted=2, true=1), 'y': SpanCounts(right=0, predicted=0, true=1)}
    """
    counts: tuple[Counter[str], Counter[str], Counter[str]] = (Counter(), Counter(), Counter())
    for true_tags, predicted_tags in zip(true, predicted, strict=True):
        there, found = set(read(true_tags)), set(read(predicted_tags))
        for counter, spans in zip(counts, (there & found, found, there), strict=True):
            counter.update(span.kind for span in spans)
    right, predicted_counts, true_counts = counts
    kinds = sorted({*predicted_counts, *true_counts})
    return {kind: SpanCounts(right[kind], predicted_counts[kind], true_counts[kind]) for kind in kinds}


def span_scores(counts: Mapping[str, SpanCounts], kinds: Sequence[str]) -> dict[str, float]:
    """Metrics of the entities of a split.

    Args:
        counts: of `count_spans`.
        kinds: all types, also those without an entity, which score 0.

    Returns:
        precision, recall and f1 of all entities together (micro); macro_…: the means over the types that are true or
        predicted; precision_<type>, recall_<type>, f1_<type>.

    >>> scores = span_scores({"x": SpanCounts(1, 2, 1), "y": SpanCounts(0, 0, 1)}, ["x", "y"])
    >>> scores["f1"], scores["macro_recall"], scores["precision_x"]
    (0.5, 0.5, 0.5)
    """
    nothing, both = SpanCounts(0, 0, 0), _together(counts)
    scores = {name: getattr(both, name) for name in ("precision", "recall", "f1")}
    for name in ("precision", "recall", "f1"):
        values = [getattr(found, name) for found in counts.values()]
        scores[f"macro_{name}"] = sum(values) / len(values) if values else 0.0
    for kind in kinds:
        found = counts.get(kind, nothing)
        scores |= {f"{name}_{kind}": getattr(found, name) for name in ("precision", "recall", "f1")}
    return scores


def _together(counts: Mapping[str, SpanCounts]) -> SpanCounts:
    """Of all types."""
    return SpanCounts(*map(sum, zip(*(SpanCounts(0, 0, 0), *counts.values()), strict=True)))


def scores_of_words(
    true: Tensor, predicted: Tensor, sentences: Tensor, label_names: Sequence[str]
) -> dict[str, float]:
    """As `span_scores`, of the words of a split; and strict_precision, strict_recall and strict_f1.

    The strict ones are of all entities together, of which one whose tags break their scheme is none.

    Args:
        true: (n,) class of each word, in the order of the words.
        predicted: (n,).
        sentences: (n,) sentence of each word, ascending: an entity ends where its sentence does.
        label_names: of the classes.
    """
    counts: list[int] = sentences.unique_consecutive(return_counts=True)[1].tolist()

    def tags(classes: Tensor) -> list[list[str]]:
        parts: list[list[int]] = [part.tolist() for part in classes.split(counts)]
        return [[label_names[label] for label in part] for part in parts]

    true_tags, predicted_tags = tags(true), tags(predicted)
    scores = span_scores(count_spans(true_tags, predicted_tags), kinds_of(label_names))
    to_the_letter = partial(strict_spans_of, scheme=scheme_of(label_names))
    strict = _together(count_spans(true_tags, predicted_tags, to_the_letter))
    return scores | {f"strict_{name}": getattr(strict, name) for name in ("precision", "recall", "f1")}

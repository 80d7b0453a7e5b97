"""The tags and entities that a model says of sentences, as columns of a table."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from torch import Tensor

from bertlab.tags import spans_of

#: the column of a table of sentences that holds their words.
WORDS = "words"
ENTITIES = pa.list_(
    pa.struct(
        {
            "type": pa.string(),
            "start": pa.int64(),
            "end": pa.int64(),
            "text": pa.string(),
            "score": pa.float32(),
        }
    )
)


def with_tags(table: pa.Table, answers: Tensor, names: Sequence[str], entities: bool) -> pa.Table:
    """The table with what the model says of each sentence's words.

    Columns: `tags`, the likeliest of each word; `probabilities`, that of each of them; and where tags say entities
    `entities`: of each its type, its first word `start`, the word after its last `end` (both counted from 0), its
    words joined by spaces as `text`, and as `score` the mean probability of its words' tags. Entities are read from
    the tags as conlleval does; tags are left as the model gave them.

    Args:
        table: n sentences, with a column of lists of words.
        answers: (words of all sentences, C) probabilities.
        names: of the C tags.
        entities: whether tags say entities.
    """
    sentences: list[list[str]] = table.column(WORDS).to_pylist()
    best = answers.max(dim=1) if len(answers) else None
    labels: list[int] = [] if best is None else best.indices.tolist()
    all_tags = [names[label] for label in labels]
    all_scores: list[float] = [] if best is None else best.values.tolist()
    tags: list[list[str]] = []
    scores: list[list[float]] = []
    found: list[list[dict[str, object]]] = []
    start = 0
    for words in sentences:
        part = slice(start, start + len(words))
        tags.append(all_tags[part])
        scores.append(all_scores[part])
        found.append(_entities(words, tags[-1], scores[-1]) if entities else [])
        start = part.stop
    table = table.append_column("tags", pa.array(tags, pa.list_(pa.string())))
    table = table.append_column("probabilities", pa.array(scores, pa.list_(pa.float32())))
    return table.append_column("entities", pa.array(found, ENTITIES)) if entities else table


def _entities(words: list[str], tags: list[str], scores: list[float]) -> list[dict[str, object]]:
    """Those of a sentence."""
    return [
        {
            "type": kind,
            "start": start,
            "end": stop,
            "text": " ".join(words[start:stop]),
            "score": sum(scores[start:stop]) / (stop - start),
        }
        for kind, start, stop in spans_of(tags)
    ]

"""Tags of words: the schemes that say which words are an entity, read and written.

`O` is outside of every entity; other tags are a prefix and a type, `B-person`:

- "bio" (IOB2): B begins an entity, I continues it.
- "iob1": as "bio", but B only where an entity follows another of its type at once; else it begins with I.
- "iobes": B and E are the first and last word of an entity, I those between, S an entity of one word.
- "none": tags without such a meaning, such as parts of speech.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

Scheme = Literal["bio", "iob1", "iobes", "none"]
OUTSIDE = "O"
PREFIXES = {"bio": "BI", "iob1": "BI", "iobes": "BIES"}


class Span(NamedTuple):
    """An entity.

    Attributes:
        kind: its type.
        start: number of its first word.
        stop: number after its last word.
    """

    kind: str
    start: int
    stop: int


def spans_of(tags: Sequence[str]) -> list[Span]:
    """The entities that a sentence's tags say, by the rules of conlleval.

    The evaluation script of CoNLL-2000, which seqeval follows: any of the schemes is understood, and what breaks them
    is taken for the likeliest: a tag begins an entity unless it is I or E after B or I of its type.

    Args:
        tags: of one sentence: `O`, or a prefix of B, I, E, S and a type.

    >>> spans_of(["B-person", "I-person", "O", "I-geo-loc", "I-person"])
    [Span(kind='person', start=0, stop=2), Span(kind='geo-loc', start=3, stop=4), Span(kind='person', start=4, stop=5)]
    """
    found: list[Span] = []
    start, before, open_kind = 0, OUTSIDE, ""
    for place, tag in enumerate((*tags, OUTSIDE)):
        prefix, _, kind = tag.partition("-")
        if prefix in ("I", "E") and before in ("B", "I") and kind == open_kind:
            before = prefix
            continue
        if before != OUTSIDE:
            found.append(Span(open_kind, start, place))
        start, before, open_kind = place, prefix, kind
    return found


def strict_spans_of(tags: Sequence[str], scheme: Scheme) -> list[Span]:
    """The entities whose tags follow the scheme to the letter: what breaks it is no entity.

    Those of seqeval's mode "strict", with its IOB2 for "bio" and IOBES for "iobes".

    Args:
        tags: of one sentence.
        scheme: "bio" or "iobes".

    >>> strict_spans_of(["B-person", "I-person", "O", "I-person", "B-x", "I-y"], "bio")
    [Span(kind='person', start=0, stop=2), Span(kind='x', start=4, stop=5)]
    """
    return [
        span
        for span in spans_of(tags)
        if list(tags[span.start : span.stop]) == tags_of([span], span.stop, scheme)[span.start :]
    ]


def scheme_of(tags: Iterable[str]) -> Scheme:
    """The scheme that the tags of a model are of: "iobes" where one ends an entity or is one by itself, else "bio".

    >>> scheme_of(["O", "B-x", "I-x"]), scheme_of(["O", "B-x", "I-x", "E-x", "S-x"])
    ('bio', 'iobes')
    """
    return "iobes" if any(tag[:2] in ("E-", "S-") for tag in tags) else "bio"


def tags_of(spans: Iterable[Span], words: int, scheme: Scheme) -> list[str]:
    """The tags of a sentence that say its entities.

    Args:
        spans: that do not overlap.
        words: of the sentence.
        scheme: "bio" or "iobes".

    >>> tags_of([Span("x", 0, 2), Span("y", 3, 4)], words=4, scheme="iobes")
    ['B-x', 'E-x', 'O', 'S-y']
    """
    tags = [OUTSIDE] * words
    for kind, start, stop in spans:
        tags[start:stop] = [f"I-{kind}"] * (stop - start)
        tags[start] = f"B-{kind}"
        if scheme == "iobes":
            tags[stop - 1] = f"E-{kind}" if stop - start > 1 else f"S-{kind}"
    return tags


def fits(tag: str, scheme: Scheme) -> bool:
    """Whether a tag can be of a scheme.

    >>> fits("B-x", "bio"), fits("x", "bio"), fits("S-x", "bio"), fits("B-", "bio"), fits("NOUN", "none")
    (True, False, False, False, True)
    """
    if scheme == "none" or tag == OUTSIDE:
        return True
    prefix, _, kind = tag.partition("-")
    return len(prefix) == 1 and prefix in PREFIXES[scheme] and kind != ""


def kinds_of(tags: Iterable[str]) -> list[str]:
    """The types in some tags, sorted.

    >>> kinds_of(["O", "B-x", "I-geo-loc", "I-x"])
    ['geo-loc', 'x']
    """
    return sorted({tag.partition("-")[2] for tag in tags} - {""})


def all_tags(kinds: Iterable[str], scheme: Scheme) -> list[str]:
    """Every tag of a scheme for some types: `O`, then type by type.

    >>> all_tags(["x", "y"], "bio")
    ['O', 'B-x', 'I-x', 'B-y', 'I-y']
    """
    return [OUTSIDE, *(f"{prefix}-{kind}" for kind in kinds for prefix in PREFIXES[scheme])]

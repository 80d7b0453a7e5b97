"""From the tags of words to classes: checked against their scheme, repaired where it is broken, numbered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_warn

from bertlab.data.word_rows import WordRows
from bertlab.tags import PREFIXES, Scheme, all_tags, fits, kinds_of, spans_of, tags_of

Tags = list[list[str]]  # of each sentence, the tag of each word
BrokenSpans = Literal["repair", "error"]


def written_tags(rows: WordRows, scheme: Scheme, broken: BrokenSpans) -> Tags:
    """The tags of a split as names: in the scheme "bio" where the file has "iob1", else in the file's own.

    Args:
        rows: with tags as in the file.
        scheme: of the file.
        broken: what to do with tags that do not follow from each other, such as I-x after O: "repair" them to
            those of the entities that conlleval sees in them, with a warning, or refuse them by "error".

    Raises:
        ValueError: a tag that is none of the scheme, or that does not follow; the message names its place.
    """
    tags = _names(rows)
    if scheme == "none":
        return tags
    for row, sentence in enumerate(tags):
        for word, tag in enumerate(sentence):
            if not fits(tag, scheme):
                accepted = ", ".join(f"{prefix}-<type>" for prefix in PREFIXES[scheme])
                raise ValueError(
                    f"{rows.where}: the tag {tag!r} in {rows.place(row, word)} is none of scheme: {scheme}. Accepted: "
                    f"O, {accepted}; for tags without prefixes set scheme: none."
                )
    into: Scheme = "bio" if scheme == "iob1" else scheme
    followed = [tags_of(spans_of(sentence), len(sentence), into) for sentence in tags]
    if scheme != "iob1":
        _report_broken(rows, tags, followed, scheme, broken)
    return followed


def choose_tags(
    found: Tags, given: Sequence[str] | None, scheme: Scheme, class_names: Sequence[str] | None = None
) -> tuple[str, ...]:
    """The classes in the order of their ids.

    Those given (which may name tags that no training word has); else those that the source names, else those of the
    training split, each with every tag of the scheme for its type: one that has only B there may have I elsewhere.

    Args:
        found: tags of the training split.
        given: by the user or a checkpoint.
        scheme: of the file.
        class_names: by the source.

    Raises:
        ValueError: a name is given twice or is none of the scheme, or there is one class only.
    """
    if given is not None:
        chosen = tuple(given)
        if len(set(chosen)) != len(chosen):
            raise ValueError(f"label_names: a name occurs twice in {list(chosen)}.")
        wrong = [name for name in chosen if not fits(name, scheme)]
        if wrong:
            raise ValueError(f"label_names: {', '.join(wrong)}: none of scheme: {scheme}.")
    else:
        names = class_names or sorted({tag for sentence in found for tag in sentence})
        every = all_tags(kinds_of(names), scheme) if scheme != "none" else []
        # Of its own accord a source names tags in its own order, which is kept.
        first = names if class_names or scheme == "none" else []
        chosen = tuple(dict.fromkeys([*first, *every]))
    if len(chosen) < 2:
        raise ValueError(
            f"tag_column: every word of the training split has the same tag {list(chosen)}; two classes are needed."
        )
    return chosen


def tag_ids(tags: Tags, label_names: Sequence[str], rows: WordRows) -> list[list[int]]:
    """The class of each word of each sentence.

    Raises:
        ValueError: a tag that is not in `label_names`; the message names the first place and how many there are.
    """
    order = {name: position for position, name in enumerate(label_names)}
    unknown = [
        (row, word)
        for row, sentence in enumerate(tags)
        for word, tag in enumerate(sentence)
        if tag not in order
    ]
    if unknown:
        names = sorted({tags[row][word] for row, word in unknown})
        raise ValueError(
            f"{rows.where}: unknown tag {', '.join(map(repr, names[:5]))} in {rows.place(*unknown[0])}"
            f"{f' and {len(unknown) - 1} more' if len(unknown) > 1 else ''}. Accepted tags: {', '.join(label_names)}."
        )
    return [[order[tag] for tag in sentence] for sentence in tags]


def rarest(labels: list[list[int]]) -> list[Hashable]:
    """Of each sentence the class in it that has the fewest words in all of them: what is to be divided alike.

    >>> rarest([[0, 0, 1], [0, 2], [0, 1]])
    [1, 2, 1]
    """
    counts = Counter(label for sentence in labels for label in sentence)
    return [min(sentence, key=lambda label: (counts[label], label), default=-1) for sentence in labels]


def _names(rows: WordRows) -> Tags:
    """The tags as names, whatever the source holds.

    Raises:
        ValueError: a tag is missing (empty, or −1 of a source that names numbers), or a number without a name.
    """
    assert rows.labels is not None
    return [
        [_name(rows, row, word, tag) for word, tag in enumerate(sentence)]
        for row, sentence in enumerate(rows.labels)
    ]


def _name(rows: WordRows, row: int, word: int, tag: Any) -> str:
    names = rows.class_names
    if tag == "" or (names is not None and isinstance(tag, int) and tag < 0):
        raise ValueError(f"{rows.where}: there is no tag in {rows.place(row, word)}.")
    if isinstance(tag, int) and names is not None:
        if tag >= len(names):
            raise ValueError(
                f"{rows.where}: the tag {tag} in {rows.place(row, word)} has no name; the source names 0 to "
                f"{len(names) - 1}."
            )
        return names[tag]
    return str(tag)


def _report_broken(rows: WordRows, tags: Tags, followed: Tags, scheme: Scheme, broken: BrokenSpans) -> None:
    places = [
        (row, word)
        for row, (sentence, right) in enumerate(zip(tags, followed, strict=True))
        for word in range(len(sentence))
        if sentence[word] != right[word]
    ]
    if not places:
        return
    row, word = places[0]
    before = f"after {tags[row][word - 1]}" if word else "at the beginning of a sentence"
    what = (
        f"{rows.where}: the tag {tags[row][word]} {before} in {rows.place(row, word)} does not follow in scheme: "
        f"{scheme}"
    )
    if broken == "error":
        iob1 = ", or scheme: iob1 if the file begins entities with I" if scheme == "bio" else ""
        raise ValueError(
            f"{what}. Correct it, or set broken_spans: repair, which takes it for {followed[row][word]}, as conlleval "
            f"counts it{iob1}."
        )
    rank_zero_warn(
        f"{what}; it is taken for {followed[row][word]}, as conlleval counts it. Words like this: {len(places)}."
    )

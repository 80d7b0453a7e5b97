"""Documents from text: none is longer than about a limit, what is longer comes in parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bertlab.corpus.document import Document
from bertlab.corpus.text_stream import divided


def parts_of(text: str, limit: int) -> Iterator[Document]:
    """One document, or its parts; none of a blank text.

    >>> [(document.text, document.part) for document in parts_of("one two three", 8)]
    [('one two', 0), ('three', 1)]
    """
    return of_pieces(enumerate([text] if len(text) <= limit else divided(text, limit)))


def of_pieces(pieces: Iterable[tuple[int, str]]) -> Iterator[Document]:
    """A document for each piece of text that is not blank.

    Args:
        pieces: each with its number, 0 where a text begins.

    >>> [(document.text, document.part) for document in of_pieces([(0, "one"), (0, " "), (1, "two"), (2, "three")])]
    [('one', 0), ('two', 0), ('three', 1)]
    """
    part = 0
    for number, piece in pieces:
        part = part if number else 0
        if piece.strip():
            yield Document(piece, part=part)
            part += 1


def until_blank(
    every: Iterator[str], limit: int, has_sentences: bool = False, blank_ends: bool = True
) -> Iterator[Document]:
    r"""Lines gathered until a blank one, or the limit.

    Args:
        every: lines without their ends.
        limit: characters of a document, about.
        has_sentences: whether each line is a sentence.
        blank_ends: whether a blank line ends a document; if not, it stays within it.

    >>> [document.text for document in until_blank(iter(["one", "two", "", "three"]), 100)]
    ['one\ntwo', 'three']
    """
    gathered: list[str] = []
    length = part = 0
    for line in every:
        blank = not line.strip()
        if gathered and ((blank and blank_ends) or length + len(line) > limit):
            yield Document("\n".join(gathered), has_sentences, part)
            gathered, length, part = [], 0, 0 if blank and blank_ends else part + 1
        if not blank or (gathered and not blank_ends):
            gathered.append(line)
            length += len(line) + 1
        elif blank_ends:
            part = 0
    if gathered:
        yield Document("\n".join(gathered), has_sentences, part)

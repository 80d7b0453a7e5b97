"""What a reader yields."""

from __future__ import annotations

from typing import NamedTuple


class Document(NamedTuple):
    """A text that belongs together.

    Attributes:
        text: its characters, any of Unicode's but lone surrogates.
        has_sentences: each line of the text is a sentence already, and is not to be split.
        part: 0, or of a text that was longer than the limit the number of this piece.
    """

    text: str
    has_sentences: bool = False
    part: int = 0

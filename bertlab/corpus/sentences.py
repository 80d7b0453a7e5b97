"""From running text to sentences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Literal, cast, get_args

import sentencex

Mode = Literal["text", "wrapped", "lines"]

# A compiled module, of which a type checker knows no names.
_segment: Callable[[str, str], list[str]] = cast(Any, sentencex).segment

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*")
_BLANK_LINES = re.compile(r"\n\s*\n")
# A line longer than this goes to the splitter in parts, which bounds its memory and time.
_PART_CHARACTERS = 100_000
# Above this a sentence with quotation marks or brackets is likelier to be several than one.
_LONG_CHARACTERS = 300
_OPENING = re.compile(r"""(?<!\S)["'“”‘’„‟«»()\[\]]""")
_CLOSING = re.compile(r"""(?<=\S)["'“‘’„‟«»()\[\]]""")
# White space of several bytes: behind it the library cuts within a character, which ends in a panic (sentencex 1.0).
_WIDE_SPACE = re.compile(r"[^\S\x00-\x7f]")


class SentenceSplitter:
    """Running text into sentences, by Wikimedia's `sentencex`.

    `sentencex` is a rule-based splitter in Rust, with the abbreviations and rules of about 300 languages. It was
    taken before nupunkt, BlingFire, syntok and pySBD: it is released often, the fastest of them by far, and with
    pySBD, which is 600 times slower, right on most of the hard cases (experiments/corpus_cleaning).
    It does not divide what stands inside a pair of quotation marks or brackets, and where one is missing, or a
    quotation is a speech, it would join sentences without end: one of more than 300 characters is divided
    again, regardless of quotation marks and brackets.

    A line break ends a sentence where `mode` is `text`, as a headline or a list item does not end in a full stop.
    No sentence is empty, has white space at its ends, or is longer than `max_characters`; a longer one, as text
    without punctuation gives, is cut between words, or inside a word that is itself longer. But for white space,
    the sentences together are the text. Deterministic and picklable.

    Args:
        language: ISO 639 code, which chooses the abbreviations; `sentencex` falls back to a related language.
        mode: `text`: a line break ends a sentence; `wrapped`: only a blank line does, for text broken at a fixed
            width; `lines`: one sentence a line already, which is not divided further.
        max_characters: of a sentence, at least 1.

    Raises:
        ValueError: a bad argument.

    >>> SentenceSplitter().split("Dr. Smith paid $3.50. Was it too much?")
    ['Dr. Smith paid $3.50.', 'Was it too much?']
    """

    def __init__(self, language: str = "en", mode: Mode = "text", max_characters: int = 2000) -> None:
        if not _LANGUAGE.fullmatch(language):
            raise ValueError(f"language: {language!r} is not an ISO 639 code, such as en, de or zh.")
        if mode not in get_args(Mode):
            raise ValueError(f"mode: {mode!r} is not one of {', '.join(get_args(Mode))}.")
        if max_characters < 1:
            raise ValueError(f"max_characters: {max_characters} is not a positive number.")
        self.language, self.mode, self.max_characters = language, mode, max_characters

    def split(self, text: str) -> list[str]:
        """The sentences of `text` in order; none of a blank text."""
        sentences: list[str] = []
        for line in self._lines(text):
            for sentence in self._divide(line):
                sentences.extend(cut(sentence, self.max_characters))
        return sentences

    def _lines(self, text: str) -> list[str]:
        if self.mode == "wrapped":
            return [" ".join(paragraph.split()) for paragraph in _BLANK_LINES.split(text)]
        return text.splitlines()

    def _divide(self, line: str) -> Iterator[str]:
        if self.mode == "lines":
            yield line
            return
        # The library speaks UTF-8, which has no lone surrogates.
        line = line.encode("utf-8", "replace").decode()
        for part in cut(line, _PART_CHARACTERS):
            for sentence in self._segments(part, part):
                yield from self._divide_again(sentence) if len(sentence) > _LONG_CHARACTERS else (sentence,)

    def _divide_again(self, sentence: str) -> Iterator[str]:
        # In their place stand signs that the splitter does not pair: one that may begin a sentence, and one that it
        # takes along with the full stop before it.
        return self._segments(sentence, _CLOSING.sub("”", _OPENING.sub("*", sentence)))

    def _segments(self, text: str, shown: str) -> Iterator[str]:
        """The parts of `text` that lie where the library ends sentences in `shown`, which is as long."""
        start = 0
        for part in _segment(self.language, _WIDE_SPACE.sub(" ", shown)):
            yield text[start : start + len(part)]
            start += len(part)


def cut(text: str, max_characters: int) -> Iterator[str]:
    """Parts of `text` of at most `max_characters`, cut at white space where there is any; none is blank.

    >>> list(cut("one two three", 8)), list(cut("unseparated", 8))
    (['one two', 'three'], ['unsepara', 'ted'])
    """
    text = text.strip()
    start = 0
    while len(text) - start > max_characters:
        # The cut may stand right after the last character that still fits, so one more is looked at.
        window = text[start : start + max_characters + 1]
        head = window if window[-1].isspace() else window.removesuffix(window.rsplit(None, 1)[-1])
        head = head.rstrip() or window[:max_characters]
        yield head
        start += len(head)
        while text[start].isspace():
            start += 1
    if start < len(text):
        yield text[start:]

"""What counts as a word before there is a vocabulary."""

from __future__ import annotations

import re

# Kana and Han are written without spaces: each character is a word of its own, as in BERT's own tokenizer for Han.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_SPACED = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores, without punctuation; Han and kana one character each.

    Thai, Lao and Khmer are written without spaces too, and are not divided: a phrase counts as one word.

    >>> words("It's 3.5 °C in 東京!")
    ['It', 's', '3', '5', 'C', 'in', '東', '京']
    """
    return WORD.findall(text)


def count_spaced(text: str) -> int:
    """Runs without white space, punctuation and all; Han and kana one character each.

    >>> count_spaced("It's 3.5 °C in 東京!")
    7
    """
    return len(text.split()) if text.isascii() else sum(1 for _ in _SPACED.finditer(text))


def has_words(text: str, number: int) -> bool:
    """Whether `text` has `number` words or more; reads no further than it must.

    >>> has_words("one two three", 3), has_words("one two three", 4)
    (True, False)
    """
    found = 0
    for found, _ in enumerate(WORD.finditer(text), start=1):
        if found >= number:
            return True
    return found >= number

"""One raw document into clean text, or the reason why it is left out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from enum import Enum
from typing import Literal

import ftfy

from bertlab.corpus.language import LanguageIdentifier
from bertlab.corpus.personal_data import Kind, PersonalData
from bertlab.corpus.words import has_words

# Old and odd line ends: carriage return, vertical tab, form feed, line and paragraph separator, and next line (U+0085),
# which in web text is a Windows ellipsis: `ftfy` sees it first.
_LINE_ENDS = re.compile("\r\n?|[\v\f\u2028\u2029]")
# Controls, soft hyphens, zero-width spaces, byte order marks, directional marks and lone surrogates carry no text. The
# zero-width joiners (U+200C, U+200D) do, in Persian, in Indic scripts and in emoji.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069"
    "\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_SPACES = re.compile(r"[^\S\n]+")
_AROUND_LINE_END = re.compile(r" ?\n ?")
_BLANK_LINES = re.compile(r"\n{3,}")
_BINARY = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\ufffd\ud800-\udfff]")
_MAX_BINARY_FRACTION = 0.05
# Repairs lay bare what the next round repairs; real text is settled after one or two.
_MAX_ROUNDS = 8
_FTFY = ftfy.TextFixerConfig(
    # Only damage is undone: typographic quotes and full-width punctuation are how people write.
    uncurl_quotes=False,
    fix_character_width=False,
    fix_line_breaks=False,  # done here, with those that ftfy does not know
    normalization=None,  # done here, for it is a setting
    explain=False,
)


class Rejection(Enum):
    """Why a document is left out; the value is its name in the counts of the summary page."""

    BINARY = "binary"
    EMPTY = "empty"
    TOO_SHORT = "too_short"
    TOO_FEW_WORDS = "too_few_words"
    LANGUAGE = "language"


class Cleaner:
    r"""One raw document into clean text, or into the reason why it is left out: `cleaner(text)`.

    In this order: a document of which more than a twentieth is control characters, U+FFFD or lone surrogates is
    `binary`; encoding that was decoded wrongly (`schÃ¶n` → `schön`), HTML entities and ligatures are repaired by
    `ftfy` (Speer 2019, doi:10.5281/zenodo.2591652); Unicode is normalised; line ends become `\n`, invisible
    characters go, each run of white space becomes one space, and more than one blank line becomes one; personal data
    is replaced; then length and language decide. Line breaks stay, for they divide sentences.

    Cleaning what is clean changes nothing. Deterministic, without state, and picklable: processes can share it.

    Args:
        fix_encoding: repair broken encoding and HTML entities.
        unicode_form: `NFC` composes accents and keeps the rest; `NFKC` also replaces full-width letters,
            ligatures and the like by plain ones; null leaves it as it is.
        min_characters: a shorter text is rejected as `too_short`.
        min_words: a text of fewer words is rejected as `too_few_words`; each Han or kana character counts as one.
        languages: ISO 639-1 codes of the languages that stay; null: all. Needs `bertlab[corpus]`.
        min_language_confidence: how sure the identification has to be, in [0, 1].
        personal_data: kinds of personal data that are replaced, of `email`, `iban`, `card`, `ip` and `phone`; null:
            none. `PersonalData` says what it does not find. Needs `bertlab[corpus]`.
        phone_regions: ISO 3166 codes of the countries whose national phone numbers are recognised.

    Raises:
        ValueError: a bad argument.
        ModuleNotFoundError: the library of a chosen filter is missing.

    >>> Cleaner()("The  Mona Lisa doesnâ€™t have eyebrows.\r\n")
    'The Mona Lisa doesn’t have eyebrows.'
    >>> Cleaner(min_words=3)("Sign in")
    <Rejection.TOO_FEW_WORDS: 'too_few_words'>
    """

    def __init__(
        self,
        fix_encoding: bool = True,
        unicode_form: Literal["NFC", "NFKC"] | None = "NFC",
        min_characters: int = 0,
        min_words: int = 0,
        languages: Sequence[str] | None = None,
        min_language_confidence: float = 0.5,
        personal_data: Sequence[Kind] | None = None,
        phone_regions: Sequence[str] = ("US",),
    ) -> None:
        for name, value in (("min_characters", min_characters), ("min_words", min_words)):
            if value < 0:
                raise ValueError(f"{name}: {value} is less than 0.")
        if unicode_form not in ("NFC", "NFKC", None):
            raise ValueError(f"unicode_form: {unicode_form!r} is not NFC, NFKC or null.")
        if not 0.0 <= min_language_confidence <= 1.0:
            raise ValueError(f"min_language_confidence: {min_language_confidence} is not in [0, 1].")
        if languages is not None and not languages:
            raise ValueError("languages: the list is empty; null lets all languages pass.")
        self.fix_encoding = fix_encoding
        self.unicode_form: Literal["NFC", "NFKC"] | None = unicode_form
        self.min_characters, self.min_words = min_characters, min_words
        self.languages = None if languages is None else frozenset(languages)
        self.min_language_confidence = min_language_confidence
        self.personal_data, self.phone_regions = personal_data, tuple(phone_regions)
        self._identify = None if languages is None else LanguageIdentifier()
        self._replace = PersonalData(personal_data, phone_regions) if personal_data else None

    def __call__(self, text: str) -> str | Rejection:
        """The clean text, not empty and without white space at its ends, or why there is none."""
        if _is_binary(text):
            return Rejection.BINARY
        text = self._settle(text)
        if self._replace is not None:
            text = self._replace(text)
        return self._reject(text) or text

    def _reject(self, text: str) -> Rejection | None:
        if not text:
            return Rejection.EMPTY
        if _is_binary(text):  # white space had thinned it
            return Rejection.BINARY
        if len(text) < self.min_characters:
            return Rejection.TOO_SHORT
        if not has_words(text, self.min_words):
            return Rejection.TOO_FEW_WORDS
        if self._identify is not None and self.languages is not None:
            language = self._identify(text)
            if language.code not in self.languages or language.confidence < self.min_language_confidence:
                return Rejection.LANGUAGE
        return None

    def _settle(self, text: str) -> str:
        for _ in range(_MAX_ROUNDS):
            repaired = self._repair(_LINE_ENDS.sub("\n", text))
            text = _tidy(repaired)
            if text == repaired:
                break
        return text

    def _repair(self, text: str) -> str:
        # Pure ASCII without an entity or a terminal escape holds nothing that ftfy could repair.
        if self.fix_encoding and not (text.isascii() and "&" not in text and "\x1b" not in text):
            text = ftfy.fix_text(text, _FTFY)
        return text if self.unicode_form is None else unicodedata.normalize(self.unicode_form, text)


def _tidy(text: str) -> str:
    text = _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text).replace("\x85", "\n"))
    text = _AROUND_LINE_END.sub("\n", _SPACES.sub(" ", text))
    return _BLANK_LINES.sub("\n\n", text).strip()


def _is_binary(text: str) -> bool:
    return len(_BINARY.findall(text)) > _MAX_BINARY_FRACTION * len(text)

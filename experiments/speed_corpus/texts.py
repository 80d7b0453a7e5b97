"""As much text as is wanted: the packaged news and papers, again and again, each time varied."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bertlab.corpus.readers import Packaged
from bertlab.corpus.sentences import SentenceSplitter

MB = 1_000_000


@cache
def documents() -> list[list[list[str]]]:
    """The words of each sentence of each document."""
    splitter = SentenceSplitter()
    texts = (d.text for name in ("news", "papers") for d in Packaged(f"packaged:{name}").documents(MB))
    return [[sentence.split() for sentence in splitter.split(text)] for text in texts]


def varied(left_out: float, seed: int) -> Iterator[str]:
    """All documents without end; a copy has the sentences in another order, and lacks words that the others have.

    Args:
        left_out: share of the words that a copy lacks. Of two copies, each without a tenth of its words, the word
            5-grams are alike by about a quarter, so that the search for near duplicates (from 0.8 on) keeps both.
        seed: of the order and the words, with the numbers of the copy and of the document.
    """
    copy = 0
    while True:
        for number, sentences in enumerate(documents()):
            generator = random.Random(f"{seed} {copy} {number}")
            order = generator.sample(sentences, len(sentences))
            kept = ([word for word in words if generator.random() >= left_out] for words in order)
            yield " ".join(" ".join(words) for words in kept if words)
        copy += 1


def text_file(folder: Path, megabytes: int, left_out: float, seed: int) -> Path:
    """JSON Lines with so many megabytes of text in UTF-8."""
    path = folder / f"text-{megabytes}-{seed}.jsonl"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        for text in varied(left_out, seed):
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            written += len(text.encode())
            if written >= megabytes * MB:
                break
    part.replace(path)
    return path

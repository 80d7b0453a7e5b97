"""The second stage: documents → cleaned text → sentences, and what duplicates are known by."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertlab.corpus.document import Document
from bertlab.corpus.duplicate_search import DuplicateSearch
from bertlab.corpus.raw_shards import raw_path, read_raw_shard
from bertlab.corpus.stage import Stage
from bertlab.corpus.steps import Splitter, TextCleaner


@dataclass
class TextStage(Stage):
    """Writes the documents of a shard in Google's format (`00000.txt`), which text each is of, and their signatures.

    Attributes:
        folder: of what it writes.
        raw: folder of the raw shards; a raw shard is deleted when its text is finished.
        cleaning: text → cleaned text, or why it is rejected; None: every text is kept as it is.
        sentences: divides text into sentences; None: each line is one.
        duplicates: gives documents their signatures; None: duplicates stay.
        count_characters: for the alphabet of a vocabulary that is to be trained.
    """

    folder: Path
    raw: Path
    cleaning: TextCleaner | None
    sentences: Splitter | None
    duplicates: DuplicateSearch | None
    count_characters: bool
    title = "Cleaning, sentences"

    def work(self, shard: int, folder: Path) -> tuple[dict[str, Any], list[Path]]:
        """As `Stage.work`."""
        read: Counter[str] = Counter()
        rejected: Counter[str] = Counter()
        characters: Counter[str] = Counter()
        kept: list[str] = []
        begun, texts = 0, list[int]()
        for document in read_raw_shard(self.raw, shard):
            begun += document.part == 0
            read.update(
                documents=int(document.part == 0), parts=int(document.part > 0), characters=len(document.text)
            )
            sentences, reason = self._sentences(document)
            if reason:
                rejected[reason] += 1
                continue
            kept.append("\n".join(sentences))
            texts.append(begun)
            if self.count_characters:
                characters.update(kept[-1])
        path = text_path(folder, shard)
        path.write_bytes("".join(block + "\n\n" for block in kept).encode("utf-8"))
        numbers_of_texts = texts_path(folder, shard)
        np.array([begun, *texts], dtype="<u4").tofile(numbers_of_texts)
        files = [path, numbers_of_texts]
        if self.duplicates is not None:
            signatures = signatures_path(folder, shard)
            signatures.write_bytes(self.duplicates.signatures(kept))
            files.append(signatures)
        numbers = {"read": read, "rejected": rejected, "kept": len(kept), "alphabet": characters}
        return numbers, files

    def _sentences(self, document: Document) -> tuple[list[str], str]:
        """The sentences, and why there are none ("" if there are)."""
        text = document.text
        if self.cleaning is not None:
            cleaned = self.cleaning(text)
            if not isinstance(cleaned, str):
                return [], str(cleaned.value)
            text = cleaned
        # Half of a surrogate pair, which JSON can hold, is no character.
        text = text.encode("utf-8", "replace").decode("utf-8")
        splitter = None if document.has_sentences else self.sentences
        sentences = text.split("\n") if splitter is None else splitter.split(text)
        stripped = [" ".join(sentence.split("\n")).strip() for sentence in sentences]
        found = [sentence for sentence in stripped if sentence]
        return found, "" if found else "blank"

    def after(self, shard: int) -> None:
        """The raw shard is not needed any more."""
        raw_path(self.raw, shard).unlink(missing_ok=True)


def text_path(folder: Path, shard: int) -> Path:
    """The text of a shard: a sentence a line, a blank line after each document."""
    return folder / f"{shard:05d}.txt"


def texts_path(folder: Path, shard: int) -> Path:
    """How many texts begin in a shard, and the number, among them, of the text that each of its documents is of.

    They count from 1: documents of number 0 go on with a text of the shards before.
    """
    return folder / f"{shard:05d}.texts"


def signatures_path(folder: Path, shard: int) -> Path:
    """The signatures of the documents of a shard."""
    return folder / f"{shard:05d}.signatures"


def read_text_shard(folder: Path, shard: int) -> list[list[str]]:
    """The sentences of each document of a shard."""
    text = text_path(folder, shard).read_bytes().decode("utf-8")
    return [block.split("\n") for block in text.split("\n\n")[:-1]]

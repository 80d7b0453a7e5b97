"""The last stage over shards: sentences → tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertlab.corpus.duplicate_search import Numbers
from bertlab.corpus.stage import Stage
from bertlab.corpus.text_stage import read_text_shard, texts_path
from bertlab.corpus.text_tokenizer import text_tokenizer
from bertlab.corpus.words import count_spaced

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CHARACTERS_AT_ONCE = 200_000  # an encoding takes about 40 times the memory of its text
LONGEST = 512  # sentences of more tokens are counted as one length
FILES = ("tokens", "sentences", "documents", "texts", "words", "pieces")


@dataclass
class TokenStage(Stage):
    """Writes the token ids of a shard, the tokens of each sentence, the sentences, text and words of each document.

    Attributes:
        folder: of what it writes.
        text: folder of the text shards.
        dropped: of each shard that has duplicates, the numbers of the documents that are left out.
        tokenizer: folder of the tokenizer.
        vocabulary_size: ids are below it.
        dtype: of the ids.
        unknown: id of the unknown token; −1 if there is none.
    """

    folder: Path
    text: Path
    dropped: dict[int, Numbers]
    tokenizer: Path
    vocabulary_size: int
    dtype: str
    unknown: int
    title = "Tokens"
    _loaded: Tokenizer | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Each process loads the tokenizer itself."""
        return {**self.__dict__, "_loaded": None}

    def work(self, shard: int, folder: Path) -> tuple[dict[str, Any], list[Path]]:
        """As `Stage.work`."""
        left_out = set(map(int, self.dropped.get(shard, ())))
        every = read_text_shard(self.text, shard)
        kept = [number for number in range(len(every)) if number not in left_out]
        documents = [every[number] for number in kept]
        begun, of_text = np.split(np.fromfile(texts_path(self.text, shard), "<u4"), [1])
        texts = of_text[kept]
        flat = [sentence for sentences in documents for sentence in sentences]
        tokens, lengths = self._encode(flat)
        has_tokens = lengths > 0
        sizes = np.array([len(sentences) for sentences in documents], dtype=np.int64)
        owner = np.repeat(np.arange(len(documents)), sizes)
        sentences = np.bincount(owner[has_tokens], minlength=len(documents))
        with_tokens = [sentence for sentence, there in zip(flat, has_tokens, strict=True) if there]
        in_sentences = np.array([count_spaced(sentence) for sentence in with_tokens], dtype=np.int64)
        words = np.bincount(owner[has_tokens], weights=in_sentences, minlength=len(documents))
        pieces = np.bincount(tokens, minlength=self.vocabulary_size)
        arrays = {
            "tokens": tokens,
            "sentences": lengths[has_tokens].astype("<u4"),
            "documents": sentences[sentences > 0].astype("<u4"),
            "texts": np.append(begun, texts[sentences > 0]).astype("<u4"),
            "words": words[sentences > 0].astype("<u4"),
            "pieces": pieces.astype("<i8"),
        }
        for name, array in arrays.items():
            array.tofile(token_path(folder, shard, name))
        bits = np.bincount(owner, weights=lengths, minlength=len(documents)).astype(np.int64)
        numbers = {
            "documents": len(arrays["documents"]),
            "sentences": len(arrays["sentences"]),
            "tokens": len(tokens),
            "words": int(in_sentences.sum()),
            "characters": sum(map(len, with_tokens)),
            "unknown": int(pieces[self.unknown]) if self.unknown >= 0 else 0,
            "without_tokens": int((sentences == 0).sum()),
            "sentence_lengths": np.bincount(np.minimum(lengths[has_tokens], LONGEST)).tolist(),
            "document_lengths": np.bincount([int(n).bit_length() for n in bits if n]).tolist(),
        }
        return numbers, [token_path(folder, shard, name) for name in FILES]

    def _encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """All ids one after another, and how many each text has."""
        self._loaded = self._loaded or text_tokenizer(self.tokenizer)
        ids: list[np.ndarray] = [np.zeros(0, self.dtype)]
        lengths: list[int] = []
        for batch in _batches(texts):
            encoded = [
                encoding.ids for encoding in self._loaded.encode_batch_fast(batch, add_special_tokens=False)
            ]
            lengths += map(len, encoded)
            ids.append(np.array([number for some in encoded for number in some], dtype=self.dtype))
        return np.concatenate(ids), np.array(lengths, dtype=np.int64)


def _batches(texts: list[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if characters >= CHARACTERS_AT_ONCE:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def token_path(folder: Path, shard: int, name: str) -> Path:
    """The file of one of the arrays of a shard."""
    return folder / f"{shard:05d}.{name}"

"""Corpora as arrays of sizes, and a whole token store of made-up words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

from bertlab.corpus.pairs import Texts
from bertlab.corpus.store_writer import write_meta
from bertlab.corpus.token_store import ARRAYS, TEXTS, TOKENIZER, WORDS
from bertlab.corpus.tokenizer_identity import fingerprint, identity_hash
from tests.tokenizers import write_tokenizer


def texts_of(sizes: list[list[int]]) -> Texts:
    """The arrays of documents whose sentences have these numbers of tokens."""
    sentences = np.array([n for document in sizes for n in document], dtype=np.int64)
    documents = np.array([len(document) for document in sizes], dtype=np.int64)
    return Texts(
        np.arange(len(sizes), dtype=np.int64),
        np.concatenate([[0], np.cumsum(documents)]),
        np.concatenate([[0], np.cumsum(sentences)]),
    )


def sizes_like_text(documents: int, seed: int = 0) -> list[list[int]]:
    """Sentences of 1 to about 60 tokens, about 12 to a document, and some documents of one sentence."""
    rng = np.random.default_rng(seed)
    return [
        np.clip(rng.gamma(2.2, 9.0, rng.geometric(1 / 12)).astype(int), 1, 400).tolist()
        for _ in range(documents)
    ]


def write_store(folder: Path, documents: int = 40, seed: int = 0, of_text: list[int] | None = None) -> Path:
    """A token store of 60 pieces, of which every third goes on with a word; `of_text`: which text a document is of."""
    folder.mkdir(parents=True)
    pieces = [f"{'##' if n % 3 == 2 else ''}{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(60)]
    size = write_tokenizer(folder / TOKENIZER, pieces)
    texts = texts_of(sizes_like_text(documents, seed))
    count = int(texts.sentence_starts[-1])
    tokens = np.random.default_rng(seed).integers(5, size, count).astype("<u2")
    tokens.tofile(folder / ARRAYS["tokens"][0])
    texts.sentence_starts.astype("<i8").tofile(folder / ARRAYS["sentence_starts"][0])
    texts.document_starts.astype("<i8").tofile(folder / ARRAYS["document_starts"][0])
    begins = np.concatenate([[0], np.cumsum((tokens - 5) % 3 != 2)])
    bounds = texts.sentence_starts[texts.document_starts]
    np.diff(begins[bounds]).astype("<u4").tofile(folder / WORDS)
    if of_text is not None:
        np.array(of_text, dtype="<i8").tofile(folder / TEXTS)
    tokenizer = AutoTokenizer.from_pretrained(str(folder / TOKENIZER))
    counts = {
        "tokens": count,
        "sentences": len(texts.sentence_starts) - 1,
        "documents": documents,
        "words": int(begins[-1]),
    }
    facts = {"dtype": "<u2", "vocabulary_size": size, "settings": {}, "counts": counts, "sources": []}
    write_meta(folder, {**facts, "tokenizer_hash": identity_hash(fingerprint(tokenizer))})
    return folder

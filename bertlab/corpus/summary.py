"""The numbers of a corpus."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from bertlab.corpus.text_stage import TextStage
from bertlab.corpus.token_stage import TokenStage, token_path
from bertlab.corpus.token_store import TOKENIZER

MOST_FREQUENT = 50
SUMS = ("documents", "sentences", "tokens", "words", "characters", "unknown", "without_tokens")


def summarize(
    name: str, text: TextStage, tokens: TokenStage, shards: int, duplicates: Counter[str]
) -> dict[str, Any]:
    """What summary.json holds: plain values that depend on the text and the settings alone.

    Args:
        name: of the corpus.
        text: the finished stage of the text.
        tokens: the finished stage of the tokens.
        shards: how many there are.
        duplicates: documents left out by kind.

    Raises:
        ValueError: no document is left.
    """
    read: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    lengths: dict[str, np.ndarray] = {
        key: np.zeros(0, np.int64) for key in ("sentence_lengths", "document_lengths")
    }
    for shard in range(shards):
        read.update(text.numbers(shard)["read"])
        rejected.update(text.numbers(shard)["rejected"])
        numbers = tokens.numbers(shard)
        sums.update({key: numbers[key] for key in SUMS})
        lengths = {key: _add(total, numbers[key]) for key, total in lengths.items()}
    if not sums["documents"]:
        raise ValueError(
            f"documents: none of the {read['documents']} documents is left: {dict(rejected + duplicates)}. Loosen "
            "cleaning, or look at what is read."
        )
    if sums["without_tokens"]:
        rejected["no_tokens"] = sums["without_tokens"]
    return {
        "name": name,
        "documents": sums["documents"],
        "sentences": sums["sentences"],
        "tokens": sums["tokens"],
        "words": sums["words"],
        "characters": sums["characters"],
        "tokens_per_word": round(sums["tokens"] / max(sums["words"], 1), 4),
        "unknown_pieces": sums["unknown"],
        "unknown_fraction": round(sums["unknown"] / max(sums["tokens"], 1), 8),
        "vocabulary_size": tokens.vocabulary_size,
        "read": {
            "documents": read["documents"],
            "characters": read["characters"],
            "further_parts": read["parts"],
        },
        "rejected": dict(rejected),
        "duplicates": dict(duplicates),
        "sentence_lengths": lengths["sentence_lengths"].tolist(),
        "document_lengths": lengths["document_lengths"].tolist(),
        **_pieces(tokens, shards),
    }


def _add(total: np.ndarray, more: list[int]) -> np.ndarray:
    longer = np.zeros(max(len(total), len(more)), np.int64)
    longer[: len(total)] += total
    longer[: len(more)] += np.array(more, np.int64)
    return longer


def _pieces(tokens: TokenStage, shards: int) -> dict[str, Any]:
    """The most frequent pieces with their counts, and how many pieces never occur."""
    from tokenizers import Tokenizer

    counts = np.zeros(tokens.vocabulary_size, np.int64)
    for shard in range(shards):
        counts += np.fromfile(token_path(tokens.folder, shard, "pieces"), "<i8")
    tokenizer = Tokenizer.from_file(str(tokens.folder.parent / TOKENIZER / "tokenizer.json"))
    first = np.argsort(-counts, kind="stable")[:MOST_FREQUENT].tolist()
    return {
        "most_frequent_pieces": [
            [tokenizer.id_to_token(number), int(counts[number])] for number in first if counts[number]
        ],
        "unused_pieces": int((counts == 0).sum()),
    }

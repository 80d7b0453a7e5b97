"""A BERT tokenizer of a few words, in a folder as the hub has them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from transformers import BertTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write_tokenizer(folder: Path, pieces: Iterable[str]) -> int:
    """Write the tokenizer whose vocabulary is the special tokens and these pieces; returns its size."""
    vocabulary = [*SPECIAL, *pieces]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=512).save_pretrained(folder)
    return len(vocabulary)

"""Real data modules on small data: texts, pairs and tagged sentences of a few words, and a store of made-up words."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from bertlab.data.pretraining import PretrainingData
from bertlab.data.text_classification import TextClassificationData
from bertlab.data.token_classification import TokenClassificationData
from bertlab.samplers.phases import Phase
from tests.corpus.small_corpus import write_store
from tests.system.tiny_project import COMMON, HAM, SPAM, write_texts
from tests.tokenizers import write_tokenizer

WORDS = [*HAM, *SPAM, *COMMON]


def write_sources(folder: Path) -> Path:
    """A tokenizer, 240 texts of 3 to 20 words, 60 pairs of them, 60 tagged sentences, and a token store."""
    write_tokenizer(folder / "tokenizer", WORDS)
    write_texts(folder / "texts.csv")
    write_store(folder / "store", documents=12)
    draw = random.Random(1)
    sentences = [draw.choices(WORDS, k=draw.randint(3, 24)) for _ in range(60)]
    pairs = [
        f"{row},{' '.join(a)},{' '.join(b)},{row % 2}"
        for row, (a, b) in enumerate(zip(sentences, sentences[1:] + sentences[:1], strict=True))
    ]
    (folder / "pairs.csv").write_text("\n".join(["id,one,two,label", *pairs]) + "\n")
    tagged = [
        "\n".join(f"{word}\t{'B-SPAM' if word in SPAM else 'O'}" for word in words) for words in sentences
    ]
    (folder / "tagged.conll").write_text("\n\n".join(tagged) + "\n")
    return folder


def texts(folder: Path, **options: Any) -> TextClassificationData:
    """192 training rows, 12 steps of 16 an epoch."""
    options = {"batch_size": 16, "seed": 2} | options
    return TextClassificationData(str(folder / "tokenizer"), str(folder / "texts.csv"), **options)


def pairs(folder: Path, **options: Any) -> TextClassificationData:
    """48 training rows, 6 steps of 8 an epoch."""
    return TextClassificationData(
        str(folder / "tokenizer"), str(folder / "pairs.csv"), text_column="one", text_pair_column="two",
        id_column="id", batch_size=8, **options,
    )  # fmt: skip


def tagged(folder: Path, **options: Any) -> TokenClassificationData:
    """48 training sentences, 6 steps of 8 an epoch."""
    return TokenClassificationData(
        str(folder / "tokenizer"), str(folder / "tagged.conll"), batch_size=8, **options
    )


def pretraining(folder: Path, **options: Any) -> PretrainingData:
    """Steps of 10 sequences of 64 tokens at most."""
    options = {"batch_size": 10, "phases": [Phase(64)], "validation_fraction": 0.1, "seed": 3} | options
    return PretrainingData(str(folder / "store"), **options)

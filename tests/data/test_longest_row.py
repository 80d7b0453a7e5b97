"""The longest row that a verb will meet, for it to be compared with what an encoder takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningDataModule

from bertlab.data.text_classification import TextClassificationData
from bertlab.data.token_classification import TokenClassificationData

#: Words of the longest text of each file; a text has two special tokens more.
WORDS = {"train": 9, "validation": 11, "test": 30, "own": 40}


def write_texts(folder: Path) -> dict[str, str]:
    for name, words in WORDS.items():
        lines = [f"good {'a ' * row},{'spam' if row % 2 else 'ham'}" for row in range(6)]
        content = "\n".join(["text,label", *lines, f"{'film ' * words},ham"])
        (folder / f"{name}.csv").write_text(content + "\n")
    return {name: str(folder / f"{name}.csv") for name in WORDS}


@pytest.mark.parametrize(
    ("stage", "longest"), [("fit", 32), ("validate", 13), ("test", 32), ("predict", 42), ("nothing", 0)]
)
def test_of_texts(stage: str, longest: int, tmp_path: Path, tokenizer_folder: str) -> None:
    files = write_texts(tmp_path)
    own = files.pop("own")
    data = TextClassificationData(tokenizer_folder, files=files, predict_source=own)
    if stage != "nothing":
        data.setup(stage)
    assert data.longest_row() == longest


def test_of_a_training_without_a_test(tmp_path: Path, tokenizer_folder: str) -> None:
    files = write_texts(tmp_path)
    del files["own"], files["test"]
    data = TextClassificationData(tokenizer_folder, files=files, test_fraction=0.0)
    data.setup("fit")
    assert data.longest_row() == 13


def test_of_words_it_is_a_window(tmp_path: Path, tokenizer_folder: str) -> None:
    sentences = ["\n".join(f"{word} O" for word in ["good", "film"] * n) for n in range(1, 15)]
    (tmp_path / "sentences.conll").write_text("\n\n".join(sentences).replace("film O", "film B-x") + "\n")
    made: dict[str, Any] = {"source": str(tmp_path / "sentences.conll"), "window_context": 2}
    for max_length, longest in ((12, 12), (128, 30)):
        data: LightningDataModule = TokenClassificationData(tokenizer_folder, max_length=max_length, **made)
        data.setup("fit")
        assert data.longest_row() == longest

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tokenizers import write_tokenizer

WORDS = [
    "good",
    "bad",
    "film",
    "spam",
    "win",
    "money",
    "hello",
    "friend",
    "the",
    "a",
    "is",
    "now",
    "call",
    "me",
]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A BERT tokenizer of about 40 word pieces."""
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, [*WORDS, *"0123456789", *(f"##{digit}" for digit in range(10))])
    return str(folder)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests tokenise does not fill the user's cache."""
    monkeypatch.setenv("BERTLAB_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def texts_csv(tmp_path: Path) -> Callable[..., Path]:
    """Writes n different texts of different lengths, of which every third is spam."""

    def write(rows: int = 60, name: str = "texts.csv") -> Path:
        path = tmp_path / name
        lines = ["text,label"]
        for row in range(rows):
            words = " ".join(WORDS[(row + i) % len(WORDS)] for i in range(1 + row * 7 % 11))
            lines.append(f"{words} {row},{'spam' if row % 3 == 0 else 'ham'}")
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write

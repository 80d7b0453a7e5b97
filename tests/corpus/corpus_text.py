"""Small texts whose documents differ, and commands over them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml

from bertlab.cli import main

SYLLABLES = ("ba", "ke", "lo", "mi", "nu", "ra", "so", "ti", "ve", "zu")


def word(number: int) -> str:
    """A word of its own for each number from 0 to 999."""
    return "".join(SYLLABLES[int(digit)] for digit in f"{number:03d}")


def document(number: int, sentences: int = 6) -> list[str]:
    """Sentences that no other number has."""
    digits = hashlib.sha256(str(number).encode()).digest() * 8
    return [
        " ".join(word(digits[8 * s + w] + 256 * (w % 3)) for w in range(8)).capitalize() + "."
        for s in range(sentences)
    ]


def google_text(documents: int) -> str:
    """Google's format."""
    return "".join("\n".join(document(number)) + "\n\n" for number in range(documents))


def write_config(folder: Path, **changes: object) -> Path:
    """A configuration without cleaning, over `text.txt` in Google's format."""
    config: dict[str, object] = {
        "name": "small",
        "documents": [
            {
                "class_path": "bertlab.corpus.readers.GoogleFormat",
                "init_args": {"path": str(folder / "text.txt")},
            }
        ],
        "vocabulary": {
            "class_path": "bertlab.corpus.vocabulary.TrainedVocabulary",
            "init_args": {"size": 300},
        },
        "output": str(folder / "{name}"),
        "executor": {"class_path": "bertlab.corpus.executors.Local", "init_args": {"workers": 1}},
        "shard_characters": 3000,
    }
    path = folder / "corpus.yaml"
    path.write_text(yaml.safe_dump({**config, **changes}))
    return path


def corpus(config: Path, *flags: str) -> None:
    """`bertlab corpus`, in this process."""
    main(["corpus", "--config", str(config), *flags])


def content(folder: Path) -> dict[str, bytes]:
    """The bytes of every file in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }

"""A build holds a shard, not the text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.corpus.corpus_text import document, write_config
from tests.corpus.test_build import STEPS

ROOT = Path(__file__).parents[2]
MB = 1_000_000


def write_text(path: Path, megabytes: int) -> int:
    """Paragraphs of 30 sentences, until there are so many megabytes; returns how many paragraphs."""
    written = number = 0
    with path.open("w") as file:
        while written < megabytes * MB:
            written += file.write(" ".join(document(number, sentences=30)) + "\n\n")
            number += 1
    return number


def peak_mib(folder: Path, megabytes: int) -> tuple[float, int]:
    """Resident memory of a build with every step, in a process of its own, at most; and how many documents it had."""
    folder.mkdir()
    documents = write_text(folder / "text.txt", megabytes)
    reader = {
        "class_path": "bertlab.corpus.readers.PlainText",
        "init_args": {"path": str(folder / "text.txt"), "document": "paragraph"},
    }
    vocabulary = {
        "class_path": "bertlab.corpus.vocabulary.TrainedVocabulary",
        "init_args": {"size": 1000, "max_characters": MB},
    }
    changes = {"documents": [reader], "vocabulary": vocabulary, "shard_characters": MB // 2, **STEPS}
    command = [sys.executable, str(ROOT / "experiments" / "speed_corpus" / "measured.py"), "took.json"]
    command += [
        sys.executable,
        "-m",
        "bertlab.cli",
        "corpus",
        "--config",
        str(write_config(folder, **changes)),
    ]
    subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    summary = json.loads((folder / "small" / "summary.json").read_text())
    assert summary["documents"] == documents
    return json.loads((folder / "took.json").read_text())["peak_mib"], documents


@pytest.mark.slow
def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    """12 MB of text more take less than 6 MiB more, beside 100 bytes a document for the search for duplicates."""
    (small, few), (large, many) = (peak_mib(tmp_path / str(size), size) for size in (3, 15))
    print(f"\npeak {small:.1f} MiB with {few} documents, {large:.1f} MiB with {many}")
    assert large - small < 6 + 100 * (many - few) / 2**20

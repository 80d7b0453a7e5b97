"""Writing a token store: the shards one after another, then what is known of the whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import bertlab
from bertlab.corpus.atomic_files import write_json
from bertlab.corpus.token_stage import token_path
from bertlab.corpus.token_store import (
    ARRAYS,
    FORMAT,
    FORMAT_WITHOUT_TEXTS,
    META,
    META_SHA256,
    TEXTS,
    WORDS,
    file_sha256,
    meta_sha256,
)

BLOCK = 1 << 22  # values at once, so that memory does not grow with the store


def write_arrays(folder: Path, shards: Sequence[Path], dtype: str, divided: bool) -> dict[str, int]:
    """Write the arrays from the files of the shards.

    Args:
        folder: of the store, which is there.
        shards: path of each shard's files without the last part of the name, in order.
        dtype: of the tokens.
        divided: whether any text was too long for one document: which text each is of is written too.

    Returns:
        How many tokens, sentences and documents there are.
    """
    counts = {"tokens": 0}
    with (folder / ARRAYS["tokens"][0]).open("wb") as file:
        for block in _blocks(shards, "tokens", dtype):
            counts["tokens"] += len(block)
            block.tofile(file)
    for name, source in (("sentence_starts", "sentences"), ("document_starts", "documents")):
        counts[source] = 0
        total = 0
        with (folder / ARRAYS[name][0]).open("wb") as file:
            np.zeros(1, "<i8").tofile(file)
            for block in _blocks(shards, source, "<u4"):
                ends = total + np.cumsum(block, dtype="<i8")
                ends.tofile(file)
                total = int(ends[-1])
                counts[source] += len(block)
    with (folder / WORDS).open("wb") as file:
        for block in _blocks(shards, "words", "<u4"):
            block.tofile(file)
    if divided:
        _write_texts(folder / TEXTS, shards)
    return counts


def _write_texts(path: Path, shards: Sequence[Path]) -> None:
    """Which text each document is of."""
    before = 0
    with path.open("wb") as file:
        for shard in shards:
            begun, of_shard = np.split(
                np.fromfile(token_path(shard.parent, int(shard.name), "texts"), "<u4"), [1]
            )
            (before + of_shard.astype("<i8")).tofile(file)
            before += int(begun[0])


def _blocks(shards: Iterable[Path], name: str, dtype: str) -> Iterable[np.ndarray]:
    for shard in shards:
        with token_path(shard.parent, int(shard.name), name).open("rb") as file:
            while len(block := np.fromfile(file, dtype, BLOCK)):
                yield block


def write_meta(folder: Path, facts: dict[str, Any]) -> None:
    """Write meta.json, the last file of a store, with size and sha256 of all others, and a sha256 of its own.

    Args:
        folder: of the store.
        facts: counts, dtype, vocabulary_size, tokenizer_hash, settings, sources, vocabulary.
    """
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    version = FORMAT if TEXTS in files else FORMAT_WITHOUT_TEXTS
    meta = {"format": version, "bertlab": bertlab.__version__, "files": files, **facts}
    write_json(folder / META, {**meta, META_SHA256: meta_sha256(meta)})

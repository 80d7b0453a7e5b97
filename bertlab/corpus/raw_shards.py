"""The first stage: documents as they are read, cut into shards whose bounds depend on the input alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from bertlab.corpus.atomic_files import read_json, write_json, write_whole
from bertlab.corpus.document import Document
from bertlab.corpus.readers import Reader

DONE = "read.json"


def write_raw_shards(
    readers: Sequence[Reader],
    folder: Path,
    shard_characters: int,
    document_characters: int,
    advance: Callable[[int], None],
) -> int:
    """Write `00000.jsonl`, … and say so in `read.json`, unless that is done already.

    Args:
        readers: read one after another.
        folder: of the shards.
        shard_characters: a shard ends with the document that brings it to so many.
        document_characters: longer documents come in parts.
        advance: is told the characters of each shard.

    Returns:
        The number of shards.

    Raises:
        ValueError: there is no document at all.
    """
    done = folder / DONE
    if done.exists():
        return int(read_json(done)["shards"])
    folder.mkdir(parents=True, exist_ok=True)
    shards = 0
    documents = (document for reader in readers for document in reader.documents(document_characters))
    for shard in cut(documents, shard_characters):
        lines = [json.dumps([*document]) + "\n" for document in shard]
        write_whole(raw_path(folder, shards), "".join(lines).encode("ascii"))
        shards += 1
        advance(sum(len(document.text) for document in shard))
    if not shards:
        raise ValueError("documents: there is no text in them: every line is blank.")
    write_json(done, {"shards": shards})
    return shards


def cut(documents: Iterable[Document], shard_characters: int) -> Iterator[list[Document]]:
    """Consecutive documents in lists of at least so many characters; the last one may have fewer.

    >>> [len(shard) for shard in cut([Document("four"), Document("four"), Document("four")], 6)]
    [2, 1]
    """
    shard: list[Document] = []
    characters = 0
    for document in documents:
        shard.append(document)
        characters += len(document.text)
        if characters >= shard_characters:
            yield shard
            shard, characters = [], 0
    if shard:
        yield shard


def raw_path(folder: Path, shard: int) -> Path:
    """The file of a shard."""
    return folder / f"{shard:05d}.jsonl"


def read_raw_shard(folder: Path, shard: int) -> Iterator[Document]:
    """The documents of a shard; JSON escapes what is not ASCII, so that only a newline ends a line."""
    with raw_path(folder, shard).open(encoding="ascii", newline="\n") as file:
        for line in file:
            yield Document(*json.loads(line))

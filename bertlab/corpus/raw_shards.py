"""The first stage: documents as they are read, cut into shards whose bounds depend on the input alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bertlab.corpus.atomic_files import read_json, write_json, write_whole
from bertlab.corpus.document import Document
from bertlab.corpus.reader import Reader

PROGRESS = "read.json"


class Read(NamedTuple):
    """A document that was read.

    Attributes:
        document: it.
        reader: number of its reader.
        place: the place after it, see `Reader.after`.
    """

    document: Document
    reader: int
    place: Any


def write_raw_shards(
    readers: Sequence[Reader],
    folder: Path,
    shard_characters: int,
    document_characters: int,
    advance: Callable[[int], None],
) -> int:
    """Write `00000.jsonl`, …, from where an earlier call was stopped.

    `read.json` says after each shard how many there are, and behind which document the next one begins; after the last
    one, only how many there are.

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
    shards, place = _known(folder)
    if place is None:
        return shards
    folder.mkdir(parents=True, exist_ok=True)
    for shard in cut(_read(readers, *place, document_characters), shard_characters):
        lines = [json.dumps([*read.document]) + "\n" for read in shard]
        write_whole(raw_path(folder, shards), "".join(lines).encode("ascii"))
        shards += 1
        write_json(folder / PROGRESS, {"shards": shards, "after": [shard[-1].reader, shard[-1].place]})
        advance(sum(len(read.document.text) for read in shard))
    if not shards:
        raise ValueError("documents: there is no text in them: every line is blank.")
    write_json(folder / PROGRESS, {"shards": shards})
    return shards


def _known(folder: Path) -> tuple[int, tuple[int, Any] | None]:
    """How many shards there are, and with which reader to go on at which place; None: they are all."""
    if not (folder / PROGRESS).exists():
        return 0, (0, None)
    progress = read_json(folder / PROGRESS)
    shards = int(progress["shards"])
    if "after" not in progress:
        return shards, None
    # Only what is read to its end is worked on, and its raw text deleted: until then all shards are there.
    lost = any(not raw_path(folder, shard).exists() for shard in range(shards))
    reader, place = progress["after"]
    return (0, (0, None)) if lost else (shards, (reader, place))


def _read(readers: Sequence[Reader], first: int, place: Any, limit: int) -> Iterator[Read]:
    for number, reader in enumerate(readers[first:], start=first):
        for document, after in reader.after(place if number == first else None, limit):
            yield Read(document, number, after)


def cut(documents: Iterable[Read], shard_characters: int) -> Iterator[list[Read]]:
    """Consecutive documents in lists of at least so many characters; the last one may have fewer.

    >>> [len(shard) for shard in cut([Read(Document("four"), 0, None)] * 3, 6)]
    [2, 1]
    """
    shard: list[Read] = []
    characters = 0
    for read in documents:
        shard.append(read)
        characters += len(read.document.text)
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

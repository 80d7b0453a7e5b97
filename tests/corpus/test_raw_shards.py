"""Reading that was stopped goes on behind the last shard that it has finished."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertlab.corpus.atomic_files import read_json
from bertlab.corpus.document import Document
from bertlab.corpus.raw_shards import write_raw_shards
from bertlab.corpus.reader import Reader
from bertlab.corpus.readers import GoogleFormat, HubDataset
from tests.corpus.corpus_text import content, corpus, document, google_text, write_config
from tests.warm import Command

SHARD, LIMIT = 900, 400  # characters: a document of six sentences comes in parts, and shards end between them


class Stops(Reader):
    """Reads as another reader does, and loses its connection behind so many documents."""

    def __init__(self, reader: Reader, documents: int) -> None:
        self.reader, self.left, self.asked = reader, documents, 0

    def documents(self, limit: int) -> Iterator[Document]:
        return (document for document, _ in self.after(None, limit))

    def after(self, place: Any, limit: int) -> Iterator[tuple[Document, Any]]:
        for found in self.reader.after(place, limit):
            self.asked += 1
            if self.asked > self.left:
                raise ConnectionError
            yield found

    def identity(self) -> list[dict[str, Any]]:
        return self.reader.identity()


@pytest.fixture
def readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Reader]:
    """A file, and a data set of the hub in three files with rows that are long, short and blank."""
    import datasets

    (tmp_path / "text.txt").write_text(google_text(9))
    texts = [" ".join(document(n, sentences=(1, 9, 2, 30, 0)[n % 5])) for n in range(20, 40)]
    rows = datasets.Dataset.from_dict({"text": texts})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows.to_iterable_dataset(num_shards=3))
    return [
        GoogleFormat(str(tmp_path / "text.txt")),
        HubDataset("a/b"),
        GoogleFormat(str(tmp_path / "text.txt")),
    ]


def write(readers: Sequence[Reader], folder: Path) -> int:
    return write_raw_shards(readers, folder, SHARD, LIMIT, lambda _: None)


def test_stopped_again_and_again_it_ends_with_the_same_bytes(readers: list[Reader], tmp_path: Path) -> None:
    shards = write(readers, tmp_path / "whole")
    whole = content(tmp_path / "whole")
    first = [json.loads(raw.splitlines()[0]) for name, raw in whole.items() if name.endswith(".jsonl")]
    assert any(part > 0 for _, has_sentences, part in first if not has_sentences), "a shard ends within a row"
    finished = [0]
    while True:
        stopping = [Stops(reader, 7) for reader in readers]
        try:
            assert write(stopping, tmp_path / "stopped") == shards
            break
        except ConnectionError:
            finished.append(read_json(tmp_path / "stopped" / "read.json")["shards"])
            assert finished[-1] > finished[-2], "each time it goes on"
    assert len(finished) > 5
    assert content(tmp_path / "stopped") == whole


def test_what_is_finished_is_not_asked_for_again(readers: list[Reader], tmp_path: Path) -> None:
    shards = write(readers, tmp_path / "raw")
    again = [Stops(reader, 0) for reader in readers]
    assert write(again, tmp_path / "raw") == shards
    assert [reader.asked for reader in again] == [0, 0, 0]


def test_a_lost_shard_is_written_again(readers: list[Reader], tmp_path: Path) -> None:
    write(readers, tmp_path / "whole")
    with pytest.raises(ConnectionError):
        write([readers[0], Stops(readers[1], 30), readers[2]], tmp_path / "stopped")
    assert read_json(tmp_path / "stopped" / "read.json")["after"][0] == 1
    (tmp_path / "stopped" / "00001.jsonl").unlink()
    write(readers, tmp_path / "stopped")
    assert content(tmp_path / "stopped") == content(tmp_path / "whole")


def spoil(path: Path) -> None:
    """Overwrite the rows of a Parquet file; what it says about itself, at its end, stays."""
    raw = path.read_bytes()
    footer = 8 + int.from_bytes(raw[-8:-4], "little")
    path.write_bytes(raw[:4] + bytes(len(raw) - 4 - footer) + raw[-footer:])


def test_killed_while_reading_from_the_hub_it_goes_on(tmp_path: Path) -> None:
    files, documents = tmp_path / "hub", [document(number) for number in range(60)]
    files.mkdir()
    for first in range(0, 60, 10):
        texts = ["\n".join(sentences) for sentences in documents[first : first + 10]]
        pq.write_table(pa.table({"text": texts}), files / f"train-{first // 10:05d}-of-00006.parquet")
    first_words = [" ".join(sentences[0].split()[:2]) for sentences in documents]
    reader = {
        "class_path": "watched_hub.WatchedHub",
        "init_args": {"path": str(files), "folder": str(tmp_path)},
    }
    config = write_config(tmp_path, documents=[reader])
    corpus(config, "--output", str(tmp_path / "whole"))
    (tmp_path / "trouble").write_text(first_words[44])
    command = ["corpus", "--config", str(config), "--output", str(tmp_path / "killed")]
    with Command(tmp_path, dict(os.environ), command) as process:
        assert process.wait().returncode == -signal.SIGKILL
    (raw,) = tmp_path.glob(".killed.part/*/raw")
    shards = read_json(raw / "read.json")["shards"]
    kept = sum(len((raw / f"{shard:05d}.jsonl").read_text().splitlines()) for shard in range(shards))
    assert 30 <= kept < 45, "the first two of the six files are not needed any more"
    for name in ("trouble", "asked"):
        (tmp_path / name).unlink()
    for number in (0, 1):
        spoil(files / f"train-{number:05d}-of-00006.parquet")
    corpus(config, "--output", str(tmp_path / "killed"))
    assert (tmp_path / "asked").read_text().splitlines() == first_words[kept:]
    assert content(tmp_path / "killed") == content(tmp_path / "whole")

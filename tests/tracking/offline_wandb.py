"""What lies in the offline files of W&B, read as `wandb sync` reads it: protobuf records in LevelDB's log format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

#: A file opens with 7 bytes of W&B's own; records are cut at blocks of so many bytes.
OPENING, BLOCK = 7, 32768
#: Before each part of a record: its checksum (4 bytes), its length (2), and whether it is the last part (1).
HEADER = 7
WHOLE, LAST = 1, 4


def history(run: Path) -> list[dict[str, Any]]:
    """What a run directory's runs have logged, an entry for each call of `log`.

    Args:
        run: of which W&B's service has ended.
    """
    files = sorted(run.glob("wandb/offline-run-*/*.wandb"))
    assert files, f"{run} has no offline files"
    parsed = (Record.FromString(content) for file in files for content in _records(file.read_bytes()))
    return [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in parsed
        if record.HasField("history")
    ]


def _records(content: bytes) -> Iterator[bytes]:
    assert content.startswith(b":W&B")
    place, record = OPENING, b""
    while place < len(content):
        left = BLOCK - place % BLOCK
        if left < HEADER:  # too few for a header: nothing but zeros
            place += left
            continue
        length, part = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        record += content[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if part in (WHOLE, LAST):
            yield record
            record = b""

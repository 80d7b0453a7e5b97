"""A writer of TensorFlow's checkpoint format, for tests of the reader: written from the format's description alone."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

MAGIC = 0xDB4775248B80FB57
DTYPES = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "int64": 9, "bool": 10}


def crc32c(data: bytes) -> int:
    """Bit by bit: slow, and nothing like the reader's."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    crc = crc32c(data)
    rotated = (crc >> 15 | crc << 17) % 2**32
    return (rotated + 0xA282EAD8) % 2**32


def varint(value: int) -> bytes:
    value %= 2**64
    groups = [value & 127]
    while value := value >> 7:
        groups[-1] |= 128
        groups.append(value & 127)
    return bytes(groups)


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def nested(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def block(entries: Sequence[tuple[bytes, bytes]], restart_interval: int) -> bytes:
    body, restarts, last = b"", [], b""
    for place, (key, value) in enumerate(entries):
        shared = 0
        if place % restart_interval == 0:
            restarts.append(len(body))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        body += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    return body + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def table(
    entries: Mapping[bytes, bytes], entries_a_block: int = 5, restart_interval: int = 2, compression: int = 0
) -> bytes:
    out, index = b"", []

    def add(content: bytes) -> bytes:
        nonlocal out
        handle = varint(len(out)) + varint(len(content))
        kind = bytes([compression])
        out += content + kind + struct.pack("<I", masked(content + kind))
        return handle

    ordered = sorted(entries.items())
    for start in range(0, len(ordered), entries_a_block):
        part = ordered[start : start + entries_a_block]
        index.append((part[-1][0], add(block(part, restart_interval))))
    handles = add(block([], 1)) + add(block(index, 1))
    return out + handles.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def entry(value: np.ndarray, shard: int, offset: int, data: bytes, dtype: int | None = None) -> bytes:
    kind = DTYPES[value.dtype.newbyteorder("=").name] if dtype is None else dtype
    shape = b"".join(nested(2, number(1, size)) for size in value.shape)
    fields = number(1, kind) + nested(2, shape) + number(3, shard) + number(4, offset) + number(5, len(data))
    return fields + varint(6 << 3 | 5) + struct.pack("<I", masked(data))


def bundle(
    prefix: Path,
    tensors: Mapping[str, np.ndarray],
    shards: int = 1,
    big: bool = False,
    needs: int = 0,
    **how: int,
) -> None:
    """Write tensors to the shards in turn, with odd bytes between them."""
    version = number(1, 1) + (number(2, needs) if needs else b"")
    entries = {b"": number(1, shards) + (number(2, 1) if big else b"") + nested(3, version)}
    files = [b""] * shards
    for place, (name, value) in enumerate(tensors.items()):
        shard = place % shards
        stored = value.astype(value.dtype.newbyteorder(">")) if big else value
        entries[name.encode()] = entry(value, shard, len(files[shard]), stored.tobytes())
        files[shard] += stored.tobytes() + b"\x55" * (place % 3)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{prefix}.index").write_bytes(table(entries, **how))
    for shard, content in enumerate(files):
        Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}").write_bytes(content)

"""Read a sorted string table: the file format of LevelDB, which TensorFlow keeps the index of a checkpoint in.

https://github.com/google/leveldb/blob/main/doc/table_format.md. Blocks of entries in order of their keys, each key
written as what it adds to the one before; after each block its compression and a checksum; at the end of the file a
footer with the place of the block of blocks, and a magic number.
"""

from __future__ import annotations

import struct
from pathlib import Path

import crc32c

from bertlab.sources.wire_format import read_varint

MAGIC = 0xDB4775248B80FB57
FOOTER = 48  # two handles of at most 20 bytes each, padded, and the magic number
TRAILER = 5  # compression, checksum
NO_COMPRESSION, SNAPPY = 0, 1


def mask(checksum: int) -> int:
    """A CRC32C as it is stored beside data: rotated and moved, so that a checksum of checksums stays one.

    Examples:
        >>> hex(mask(0))
        '0xa282ead8'
    """
    return (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def read_table(path: Path) -> dict[bytes, bytes]:
    """All entries of a table, in order of their keys, every checksum verified.

    Args:
        path: of the file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such table, is damaged, or its blocks are compressed.
    """
    data = path.read_bytes()
    try:
        return _entries(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _entries(data: bytes) -> dict[bytes, bytes]:
    if len(data) < FOOTER or struct.unpack("<Q", data[-8:])[0] != MAGIC:
        raise ValueError(
            f"not the index of a TensorFlow checkpoint, or cut off: its {len(data)} bytes do not end in the magic "
            f"number {MAGIC:#x}"
        )
    footer = data[-FOOTER:-8]
    _, _, place = _handle(footer, 0)  # of the block of further information, which TensorFlow leaves empty
    start, size, _ = _handle(footer, place)
    found: dict[bytes, bytes] = {}
    last = None
    for _, handle in _block(data, start, size):
        start, size, _ = _handle(handle, 0)
        for key, value in _block(data, start, size):
            if last is not None and key <= last:
                raise ValueError(f"damaged: the key {key!r} stands after {last!r}")
            found[key] = value
            last = key
    return found


def _handle(data: bytes, place: int) -> tuple[int, int, int]:
    start, place = read_varint(data, place)
    size, place = read_varint(data, place)
    return start, size, place


def _block(data: bytes, start: int, size: int) -> list[tuple[bytes, bytes]]:
    end = start + size
    if end + TRAILER > len(data) - FOOTER:
        raise ValueError(f"damaged or cut off: a block of {size} bytes at {start} in a file of {len(data)}")
    compression, stored = struct.unpack("<BI", data[end : end + TRAILER])
    if stored != mask(crc32c.crc32c(data[start : end + 1])):
        raise ValueError(f"damaged: the checksum of the block at byte {start} is wrong")
    if compression != NO_COMPRESSION:
        kind = "Snappy" if compression == SNAPPY else f"kind {compression}"
        raise ValueError(
            f"its blocks are compressed ({kind}), which tf.train.Saver does not do and bertlab does not read: write "
            "the checkpoint again with TensorFlow 1.2 or newer"
        )
    return _block_entries(data[start:end])


def _block_entries(block: bytes) -> list[tuple[bytes, bytes]]:
    restarts = struct.unpack("<I", block[-4:])[0] if len(block) >= 4 else 0
    end = len(block) - 4 * (restarts + 1)
    if restarts < 1 or end < 0:
        raise ValueError(f"damaged: a block of {len(block)} bytes with {restarts} restarts")
    entries: list[tuple[bytes, bytes]] = []
    key, place = b"", 0
    while place < end:
        shared, place = read_varint(block, place)
        added, place = read_varint(block, place)
        size, place = read_varint(block, place)
        if shared > len(key) or place + added + size > end:
            raise ValueError(f"damaged: an entry of a block goes beyond it ({shared}, {added}, {size})")
        key = key[:shared] + block[place : place + added]
        place += added
        entries.append((key, block[place : place + size]))
        place += size
    return entries

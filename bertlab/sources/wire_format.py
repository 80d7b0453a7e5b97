"""The wire format of protocol buffers, as far as a few small messages need it.

https://protobuf.dev/programming-guides/encoding/: a message is a row of fields, each a varint key (number << 3 | wire
type) and a value. Two messages of TensorFlow's checkpoints are all that is read here, which does not pay for generated
classes and a dependency on their version.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


class Varint(NamedTuple):
    """A number and where the next byte is."""

    value: int
    end: int


def read_varint(data: bytes, start: int) -> Varint:
    """The number whose seven-bit groups, lowest first, begin at `start`.

    Raises:
        ValueError: the data ends within it, or it has more than 64 bits.

    Examples:
        >>> read_varint(bytes([0xAC, 0x02]), 0)
        Varint(value=300, end=2)
    """
    value = 0
    for place, byte in enumerate(data[start : start + 10]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return Varint(value, start + place + 1)
    raise ValueError(f"no whole number at byte {start} of {len(data)}")


def read_message(data: bytes) -> dict[int, list[int | bytes]]:
    """The fields of a message: for each number its values in order; numbers unsigned, the rest as bytes.

    Raises:
        ValueError: the bytes are no message.

    Examples:
        >>> read_message(bytes([0x08, 0x96, 0x01, 0x12, 0x02, 0x68, 0x69]))
        {1: [150], 2: [b'hi']}
    """
    fields: dict[int, list[int | bytes]] = {}
    place = 0
    while place < len(data):
        key, place = read_varint(data, place)
        kind = key & 7
        value: int | bytes
        if kind == VARINT:
            value, place = read_varint(data, place)
        elif kind == LENGTH:
            size, place = read_varint(data, place)
            value, place = _slice(data, place, size), place + size
        elif kind == FIXED32:
            value, place = struct.unpack("<I", _slice(data, place, 4))[0], place + 4
        elif kind == FIXED64:
            value, place = struct.unpack("<Q", _slice(data, place, 8))[0], place + 8
        else:
            raise ValueError(f"wire type {kind} at byte {place} of {len(data)}")
        fields.setdefault(key >> 3, []).append(value)
    return fields


def number(fields: dict[int, list[int | bytes]], key: int) -> int:
    """The signed number of a field, 0 where it is absent (the last one counts, as the format says).

    Raises:
        ValueError: the field holds bytes.
    """
    value = fields.get(key, [0])[-1]
    if isinstance(value, bytes):
        raise ValueError(f"field {key} holds bytes, not a number")
    return value - (1 << 64) if value >= 1 << 63 else value


def messages(fields: dict[int, list[int | bytes]], key: int) -> list[dict[int, list[int | bytes]]]:
    """The messages inside a repeated field.

    Raises:
        ValueError: the field holds something else.
    """
    return [read_message(value) for value in _bytes(fields, key)]


def _bytes(fields: dict[int, list[int | bytes]], key: int) -> list[bytes]:
    values = fields.get(key, [])
    found = [value for value in values if isinstance(value, bytes)]
    if len(found) != len(values):
        raise ValueError(f"field {key} holds a number, not a message")
    return found


def _slice(data: bytes, start: int, size: int) -> bytes:
    if start + size > len(data):
        raise ValueError(f"{size} bytes wanted at byte {start} of {len(data)}")
    return data[start : start + size]

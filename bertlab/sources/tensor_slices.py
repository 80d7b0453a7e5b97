"""Parts of a partitioned TensorFlow variable: what they cover, and under which key a checkpoint keeps them."""

from __future__ import annotations

from dataclasses import dataclass

# What is xored onto the first two bytes of a signed number of that many bytes, so that bytes sort as numbers do.
_HEADERS = (0, 0x8000, 0xC000, 0xE000, 0xF000, 0xF800, 0xFC00, 0xFE00, 0xFF00, 0xFF80, 0xFFC0)


@dataclass(frozen=True)
class Extent:
    """What a slice covers of one dimension.

    Attributes:
        start: first index.
        length: how many; -1: all of the dimension.
    """

    start: int
    length: int

    def of(self, size: int) -> slice:
        """As an index into a dimension of that size.

        Raises:
            ValueError: it goes beyond.
        """
        if self.length < 0:
            return slice(0, size)
        if not 0 <= self.start <= self.start + self.length <= size:
            raise ValueError(f"a slice from {self.start}, {self.length} long, of a dimension of {size}")
        return slice(self.start, self.start + self.length)


def slice_key(name: str, extents: tuple[Extent, ...]) -> bytes:
    r"""The key under which a slice of a variable is stored.

    TensorFlow's `checkpoint::EncodeTensorNameSlice`: a 0, the name, the rank, and start and length of each dimension,
    written so that bytes sort as the values do (its `OrderedCode`).

    Args:
        name: of the whole variable.
        extents: one for each dimension.

    Examples:
        >>> slice_key("w", (Extent(0, 3), Extent(0, -1)))
        b'\x00w\x00\x01\x01\x02\x80\x83\x80\x7f'
    """
    escaped = b"".join(
        {0x00: b"\x00\xff", 0xFF: b"\xff\x00"}.get(byte, bytes([byte])) for byte in name.encode()
    )
    numbers = b"".join(_signed(extent.start) + _signed(extent.length) for extent in extents)
    return _unsigned(0) + escaped + b"\x00\x01" + _unsigned(len(extents)) + numbers


def _unsigned(value: int) -> bytes:
    """A number after the count of its bytes, highest first."""
    size = (value.bit_length() + 7) // 8
    return bytes([size]) + value.to_bytes(size, "big")


def _signed(value: int) -> bytes:
    """A number whose leading bits tell its length: 7·n - 1 bits of value in n bytes."""
    bits = (~value if value < 0 else value).bit_length()
    size = bits // 7 + 1
    wide = (value & ((1 << 80) - 1)).to_bytes(10, "big")[10 - size :]
    header = _HEADERS[size].to_bytes(2, "big")
    return bytes(byte ^ header[i] if i < 2 else byte for i, byte in enumerate(wide))

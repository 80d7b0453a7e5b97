"""TensorBundle: a TensorFlow checkpoint (format V2), read without TensorFlow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
import numpy.typing as npt

from bertlab.sources.sorted_table import mask, read_table
from bertlab.sources.tensor_slices import Extent, slice_key
from bertlab.sources.wire_format import messages, number, read_message

VERSION = 1  # newest format known here; a checkpoint says which reader it needs at least
BFLOAT16, STRING = 14, 7
# TensorFlow's numbers for the types of elements; bfloat16 is unknown to numpy and widened to float32.
DTYPES = {
    1: "f4", 2: "f8", 3: "i4", 4: "u1", 5: "i2", 6: "i1", 8: "c8", 9: "i8", 10: "?", BFLOAT16: "u2", 17: "u2",
    18: "c16", 19: "f2", 22: "u4", 23: "u8",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """What the index says of one tensor: BundleEntryProto of tensorflow/core/protobuf/tensor_bundle.proto."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    slices: tuple[tuple[Extent, ...], ...]


class TensorBundle:
    """The tensors of a checkpoint, by name.

    `<prefix>.index` is a sorted table from names to places in `<prefix>.data-00000-of-0000n`, which are mapped into
    memory. Checksums of the index are verified at once, that of a tensor when it is read. Variables that were saved in
    partitions are put together.

    Args:
        prefix: path without `.index`, as `tf.train.Saver` is given it.

    Raises:
        FileNotFoundError: the index is missing.
        ValueError: the index is damaged, is no index, or needs a newer reader.
    """

    def __init__(self, prefix: str | Path) -> None:
        self.prefix = Path(prefix)
        self.index = Path(f"{prefix}.index")
        if not self.index.is_file():
            raise FileNotFoundError(
                f"{self.index}: there is no such file, the index of a TensorFlow checkpoint"
            )
        table = read_table(self.index)
        try:
            self._read_header(read_message(table.pop(b"")))
        except KeyError:
            raise ValueError(f"{self.index}: a table without the header of a checkpoint") from None
        except ValueError as error:
            raise ValueError(f"{self.index}: {error}") from error
        # Parts of partitioned variables have keys that begin with a zero byte; the variable's own entry lists them.
        self._entries = {key: self._entry(key, value) for key, value in table.items()}
        self._names = {key.decode(): key for key in self._entries if not key.startswith(b"\0")}
        self._maps: dict[int, npt.NDArray[np.uint8]] = {}

    @property
    def names(self) -> list[str]:
        """Names of all variables, sorted."""
        return list(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a variable; of a partitioned one, that of the whole.

        Raises:
            KeyError: there is none of that name.
        """
        return self._entries[self._names[name]].shape

    def read(self, name: str) -> npt.NDArray[Any]:
        """A variable, read-only and still in the file unless it was partitioned, in other byte order, or bfloat16.

        Raises:
            KeyError: there is none of that name.
            FileNotFoundError: its data file is missing.
            ValueError: the data is damaged or cut off, or its type is none of numbers.
        """
        entry = self._entries[self._names[name]]
        try:
            return self._joined(name, entry) if entry.slices else self._value(entry)
        except ValueError as error:
            raise ValueError(f"{self._file(entry.shard)}: the tensor {name!r}: {error}") from error

    def _read_header(self, header: dict[int, list[int | bytes]]) -> None:
        self.shards = number(header, 1)
        self._order = ">" if number(header, 2) else "<"
        versions = messages(header, 3)
        needed = number(versions[-1], 2) if versions else 0
        if needed > VERSION:
            raise ValueError(f"the checkpoint needs a reader of version {needed}, this one has {VERSION}")
        if self.shards < 1:
            raise ValueError(f"damaged: a checkpoint of {self.shards} data files")

    def _entry(self, key: bytes, value: bytes) -> Entry:
        try:
            fields = read_message(value)
            shapes = messages(fields, 2)
            shape = tuple(number(dim, 1) for dim in messages(shapes[-1], 2)) if shapes else ()
            slices = tuple(
                tuple(Extent(number(e, 1), number(e, 2) if 2 in e else -1) for e in messages(part, 1))
                for part in messages(fields, 7)
            )
            shard, offset, size, checksum = (number(fields, field) for field in (3, 4, 5, 6))
            entry = Entry(number(fields, 1), shape, shard, offset, size, checksum, slices)
            if min((*shape, entry.offset, entry.size)) < 0 or not 0 <= entry.shard < self.shards:
                raise ValueError(f"it cannot be {entry}")
        except ValueError as error:
            raise ValueError(f"{self.index}: the entry {key.decode(errors='replace')!r}: {error}") from error
        return entry

    def _file(self, shard: int) -> Path:
        return Path(f"{self.prefix}.data-{shard:05d}-of-{self.shards:05d}")

    def _data(self, shard: int) -> npt.NDArray[np.uint8]:
        if shard not in self._maps:
            path = self._file(shard)
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path}: this data file is missing; {self.index} names {self.shards} of them, "
                    f"numbers 0 to {self.shards - 1}"
                )
            empty = path.stat().st_size == 0  # an empty file cannot be mapped
            self._maps[shard] = np.zeros(0, np.uint8) if empty else np.memmap(path, np.uint8, "r")
        return self._maps[shard]

    def _value(self, entry: Entry) -> npt.NDArray[Any]:
        if entry.dtype not in DTYPES:
            kind = "strings" if entry.dtype == STRING else f"TensorFlow's type {entry.dtype}"
            raise ValueError(f"it holds {kind}, bertlab reads numbers only")
        dtype = np.dtype(self._order + DTYPES[entry.dtype])
        if math.prod(entry.shape) * dtype.itemsize != entry.size:
            raise ValueError(f"damaged: {entry.size} bytes for the shape {entry.shape} of {dtype}")
        data = self._data(entry.shard)
        if entry.offset + entry.size > len(data):
            raise ValueError(
                f"the file is cut off: it has {len(data)} bytes, the tensor ends at {entry.offset + entry.size}"
            )
        raw = data[entry.offset : entry.offset + entry.size]
        found = mask(crc32c.crc32c(raw.data)) if entry.size else mask(0)
        if found != entry.checksum:
            raise ValueError(f"damaged: its checksum is {found:#010x}, the index says {entry.checksum:#010x}")
        value = raw.view(dtype).reshape(entry.shape)
        if entry.dtype == BFLOAT16:  # the upper half of a float32
            return (value.astype(np.uint32) << 16).view(np.float32)
        return value.astype(dtype.newbyteorder("="), copy=False)

    def _joined(self, name: str, entry: Entry) -> npt.NDArray[Any]:
        whole: npt.NDArray[Any] | None = None
        covered = np.zeros(entry.shape, bool)
        for extents in entry.slices:
            if len(extents) != len(entry.shape):
                raise ValueError(f"damaged: a part of {len(extents)} dimensions of a shape {entry.shape}")
            part = self._entries.get(slice_key(name, extents))
            if part is None:
                raise ValueError(f"the part {extents} is missing from {self.index}")
            value = self._value(part)
            where = tuple(extent.of(size) for extent, size in zip(extents, entry.shape, strict=True))
            if covered[where].shape != value.shape:
                raise ValueError(f"damaged: the part {extents} has the shape {value.shape}")
            whole = np.empty(entry.shape, value.dtype) if whole is None else whole
            whole[where] = value
            covered[where] = True
        if whole is None or not covered.all():
            raise ValueError(f"its parts leave {int((~covered).sum())} of {covered.size} values out")
        return whole

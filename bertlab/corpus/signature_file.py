"""The signatures of all documents of a corpus, on disk."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

_BLOCK_ROWS = 4096


class SignatureFile:
    """Rows of bytes of one size, appended one by one and read by column or by row, of which few are in memory.

    It is read in blocks, rather than memory-mapped, for pages of a mapped file count as the process's own memory.

    Args:
        size: bytes of a row.
        folder: of the temporary file, which has no name and is gone when it is closed; None: that of the system.
    """

    def __init__(self, size: int, folder: str | Path | None = None) -> None:
        self.size, self._length = size, 0
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    def __len__(self) -> int:
        return self._length

    def append(self, row: bytes) -> None:
        """Write one row more."""
        if len(row) != self.size:
            raise ValueError(f"A row of {len(row)} bytes instead of {self.size}.")
        self._file.write(row)
        self._length += 1

    def columns(self, start: int, stop: int) -> npt.NDArray[np.uint64]:
        """(keys, rows): the bytes from `start` to `stop` of every row, which are 16, or else hashed to 8."""
        whole = stop - start == 16
        keys = np.empty((2 if whole else 1, self._length), dtype=np.uint64)
        self._file.seek(0)
        for at in range(0, self._length, _BLOCK_ROWS):
            block = self._read(min(_BLOCK_ROWS, self._length - at))[:, start:stop]
            block = np.ascontiguousarray(block)
            keys[:, at : at + _BLOCK_ROWS] = block.view("<u8").T if whole else _hash(block.view("<u4"))
        self._file.seek(0, 2)
        return keys

    def rows(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """(len(indices), size) the rows of these numbers."""
        found = np.empty((len(indices), self.size), dtype=np.uint8)
        for place, index in enumerate(indices.tolist()):
            self._file.seek(index * self.size)
            found[place] = self._read(1)
        self._file.seek(0, 2)
        return found

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def _read(self, rows: int) -> npt.NDArray[np.uint8]:
        return np.frombuffer(self._file.read(rows * self.size), dtype=np.uint8).reshape(rows, self.size)


def _hash(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    """(rows,) 64-bit hash of (rows, n) words, by FNV-1a with a shift that also stirs the low bits."""
    state = np.full(len(words), 0xCBF29CE484222325, dtype=np.uint64)
    for column in words.T:
        state = (state ^ column) * np.uint64(0x100000001B3)
        state ^= state >> np.uint64(32)
    return state

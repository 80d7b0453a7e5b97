"""TrunkStore: what the frozen blocks make of the rows of a split, in a memory-mapped file."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bertlab.callbacks.trunk_keys import row_fingerprints
from bertlab.interfaces import TextBatch

GIB = 2**30


class TrunkStore:
    """Keeps a vector for each token, or each sequence, of the rows that a budget has room for.

    The longest rows are kept, since they cost most. A row is known by its number *and* by its tokens: of a row that
    has been cut to another length, or otherwise changed, nothing is known.

    The processes of a node share one file. Its name is taken away as soon as all of them have mapped it (`hide`), so
    that the system frees it when they end, however they end.

    Args:
        path: of the file.
        lengths: (n,) tokens of each row of the split.
        unit: for what there is a vector each.
        sample: (…, D) some of the values, of which width and type are taken.
        max_bytes: of the file at most.
        dtype: of what is stored; None: as the sample is.

    Raises:
        OSError: there is not enough room for the file.
    """

    def __init__(
        self,
        path: Path,
        lengths: npt.NDArray[np.int64],
        unit: Literal["token", "sequence"],
        sample: Tensor,
        max_bytes: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.lengths, self.path = lengths, path
        self._unit, self._given = unit, sample.dtype
        self._dtype, width = dtype or sample.dtype, sample.shape[-1]
        #: the rows that are kept, longest first.
        self.rows = rows_with_room(lengths, unit, max_bytes // (width * self._dtype.itemsize))
        counts = _vectors(lengths[self.rows], unit)
        ends = np.cumsum(counts)
        #: (n,) number of the first vector of each row, −1 where it is not kept.
        starts = np.full(len(lengths), -1)
        starts[self.rows] = ends - counts
        self._starts = torch.from_numpy(starts)
        self._fingerprints = torch.zeros(len(lengths), dtype=torch.int64)
        self._total = int(counts.sum())
        self.bytes = self._total * width * self._dtype.itemsize
        self._values = self._mapped(width)

    def hide(self) -> None:
        """Take the name of the file away; its content lasts as long as a process has it mapped."""
        self.path.unlink(missing_ok=True)

    def expect(self, batch: TextBatch) -> None:
        """Remember the tokens of rows whose values this process, or another of the node, writes."""
        self._fingerprints[batch.index] = row_fingerprints(batch)

    def write(self, batch: TextBatch, values: Tensor) -> None:
        """Keep what the frozen blocks gave for rows that `rows` names."""
        self._values[self._places(batch.index, batch.lengths)] = values.to("cpu", self._dtype)

    def known(self, batch: TextBatch) -> tuple[Tensor, Tensor]:
        """Which sequences of a batch are kept.

        Returns:
            (S,) bool on the CPU: kept; (S,) bool: the row is kept, but with other tokens.
        """
        index = batch.index.cpu()
        inside = index < len(self._starts)
        there = inside & (self._starts[index.where(inside, 0)] >= 0)
        same = self._fingerprints[index.where(inside, 0)] == row_fingerprints(batch).cpu()
        return there & same, there & ~same

    def read(self, index: Tensor, lengths: Tensor) -> Tensor:
        """The values of rows that are kept, one row after another, on the CPU.

        Args:
            index: (S,) rows.
            lengths: (S,) tokens of each, on the CPU.
        """
        return self._values.index_select(0, self._places(index.cpu(), lengths)).to(self._given)

    def _places(self, index: Tensor, lengths: Tensor) -> Tensor:
        """Numbers of the vectors of rows."""
        starts = self._starts[index]
        if self._unit == "sequence":
            return starts
        shifts = starts - (lengths.cumsum(0) - lengths)
        return shifts.repeat_interleave(lengths) + torch.arange(int(lengths.sum()))

    def _mapped(self, width: int) -> Tensor:
        """(rows or tokens, D) the file as a tensor."""
        if not self.bytes:
            return torch.empty(0, width, dtype=self._dtype)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if hasattr(os, "posix_fallocate"):
                # Where there is too little room this raises; a mapped file without room would kill the process.
                os.posix_fallocate(file, 0, self.bytes)
            else:
                os.ftruncate(file, self.bytes)
        except OSError as error:
            self.hide()
            if error.errno != errno.ENOSPC:
                raise
            raise OSError(
                error.errno,
                f"FrozenTrunkCache.max_gib: there is no room for {self.bytes / GIB:.2f} GiB in {self.path.parent}; "
                "lower it, or bfloat16: true takes half",
            ) from error
        finally:
            os.close(file)
        flat = torch.from_file(
            str(self.path), shared=True, size=self.bytes // self._dtype.itemsize, dtype=self._dtype
        )
        return flat.view(-1, width)


def rows_with_room(
    lengths: npt.NDArray[np.int64], unit: Literal["token", "sequence"], room: int
) -> npt.NDArray[np.int64]:
    """The rows that are kept, longest first.

    Args:
        lengths: (n,) tokens of each row.
        unit: for what there is a vector each.
        room: vectors at most.

    Examples:
        >>> rows_with_room(np.array([2, 7, 3, 4]), "token", 12).tolist()
        [1, 3]
    """
    longest_first = np.argsort(-lengths, kind="stable")
    ends = np.cumsum(_vectors(lengths[longest_first], unit))
    return longest_first[: int(np.searchsorted(ends, room, side="right"))]


def _vectors(lengths: npt.NDArray[np.int64], unit: Literal["token", "sequence"]) -> npt.NDArray[np.int64]:
    """(n,) vectors of each row."""
    return lengths if unit == "token" else np.ones(len(lengths), dtype=np.int64)

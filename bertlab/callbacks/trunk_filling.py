"""Filling a trunk store: every row once, in batches that depend on nothing but the rows."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from bertlab.callbacks.data_pass import DataPass
from bertlab.callbacks.trunk_store import TrunkStore, rows_with_room
from bertlab.interfaces import FixedRows, HasFixedRows, HasTrunk, ShowsWork, TextBatch
from bertlab.samplers.sorted_batches import sorted_batches

FILL_TOKENS = 8192  # of a batch
MOST_BYTES = 2**40  # of the rows of a few batches: no bound


def dividable_task(trainer: Trainer) -> HasTrunk:
    """The task of a trainer, if rows can be run through its trunk.

    Raises:
        TypeError: they cannot: the task cannot be run in two parts, or the data has no rows beside its batches.
    """
    module, data = trainer.lightning_module, getattr(trainer, "datamodule", None)
    if not isinstance(module, HasTrunk):
        raise TypeError(
            "FrozenTrunkCache needs a task that can be run in two parts, such as SequenceClassification; "
            f"{type(module).__name__} has no trunk(batch, blocks)"
        )
    if not isinstance(data, HasFixedRows):
        raise TypeError(
            "FrozenTrunkCache needs data whose rows it can read beside the batches, such as "
            f"TextClassificationData; {type(data).__name__} has no dataset(name)"
        )
    return module


class TrunkFilling:
    """The pass of the frozen blocks over the rows of a split, longest first, to keep what they give.

    What a row gets can depend, by rounding, on the batch that it is in; so batches are the same whenever, and on
    however many ranks, this is done.

    Args:
        trainer: of the task and the data.
        split: "train" or "validation".
        blocks: how many blocks are frozen.
        max_bytes: that may be kept.
        dtype: of what is kept; None: as it was computed.
    """

    def __init__(
        self, trainer: Trainer, split: str, blocks: int, max_bytes: int, dtype: torch.dtype | None
    ) -> None:
        self._trainer, self._split, self._blocks = trainer, split, blocks
        self._max_bytes, self._dtype = max_bytes, dtype
        self._rows = rows_of(trainer, split)
        self._unit: Literal["token", "sequence"] = unit_of(trainer, blocks)
        lengths = self._rows.lengths
        self._sample = self._output(self._rows.batch(np.array([int(np.argmin(lengths))])))
        itemsize = (dtype or self._sample.dtype).itemsize
        kept = rows_with_room(lengths, self._unit, max_bytes // (self._sample.shape[-1] * itemsize))
        self._batches = [kept[places] for places in sorted_batches(lengths[kept], FILL_TOKENS)]

    def store(self) -> TrunkStore:
        """Do it: the ranks of a node share the work and the file."""
        trainer, count = self._trainer, len(self._batches)
        store = TrunkStore(
            store_path(trainer, self._split),
            self._rows.lengths,
            self._unit,
            self._sample,
            self._max_bytes,
            self._dtype,
        )
        trainer.strategy.barrier("FrozenTrunkCache: mapped")
        store.hide()
        for number, rows in enumerate(self._batches):
            batch = self._rows.batch(rows)
            store.expect(batch)
            if number % trainer.num_devices == trainer.local_rank:
                store.write(batch, self._output(batch))
            _show(trainer, f"Frozen trunk, {self._split}", number + 1, count)
        trainer.strategy.barrier("FrozenTrunkCache: filled")
        return store

    def timed(self) -> DataPass:
        """The same pass for `bertlab plan`, piece by piece, of which nothing is kept.

        Its pieces, the same on all ranks, begin with rows of a usual length.
        """
        lengths, ranks = self._rows.lengths, self._trainer.num_devices

        def pieces() -> Generator[int]:
            middle = len(self._batches) // 2
            for rows in self._batches[middle:] + self._batches[:middle]:
                self._output(self._rows.batch(rows)).to("cpu", self._dtype)
                yield int(lengths[rows].sum())

        tokens = [int(lengths[rows].sum()) for rows in self._batches]
        amount = max(sum(tokens[rank::ranks]) for rank in range(ranks))
        count = sum(map(len, self._batches))
        what = f"fills the cache: {count:,} rows forward through {self._blocks} frozen blocks"
        return DataPass(what, f"{self._blocks} blocks", amount, pieces)

    def _output(self, batch: TextBatch) -> Tensor:
        return output_of(self._trainer, batch, self._blocks)


def store_of(
    trainer: Trainer, batches: Sequence[TextBatch], blocks: int, dtype: torch.dtype | None
) -> TrunkStore:
    """Run the frozen blocks on some batches of the training split, and keep what they give, in a file without a name.

    Args:
        trainer: of the task and the data.
        batches: on the CPU.
        blocks: how many blocks are frozen.
        dtype: of what is kept; None: as it was computed.
    """
    lengths = np.zeros_like(rows_of(trainer, "train").lengths)  # of the other rows nothing is kept
    for batch in batches:
        lengths[batch.index.numpy()] = batch.lengths.numpy()
    found = [output_of(trainer, batch, blocks) for batch in batches]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.bin"
        store = TrunkStore(path, lengths, unit_of(trainer, blocks), found[0], MOST_BYTES, dtype)
    for batch, values in zip(batches, found, strict=True):
        store.expect(batch)
        store.write(batch, values)
    return store


def output_of(trainer: Trainer, batch: TextBatch, blocks: int) -> Tensor:
    """What the frozen blocks give for a batch of rows, on the device of the task."""
    task = trainer.lightning_module
    assert isinstance(task, HasTrunk)
    with torch.inference_mode(), trainer.precision_plugin.forward_context():
        return task.trunk(batch.to(task.device), blocks)


def unit_of(trainer: Trainer, blocks: int) -> Literal["token", "sequence"]:
    """For what the frozen blocks give a vector each."""
    task = trainer.lightning_module
    assert isinstance(task, HasTrunk)
    unit = task.trunk_unit(blocks)
    assert unit is not None
    return unit


def rows_of(trainer: Trainer, split: str) -> FixedRows:
    """The rows of "train" or "validation" as they are now."""
    data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(data, HasFixedRows)
    return data.dataset(split)


def store_path(trainer: Trainer, split: str) -> Path:
    """The file of a node, for the short time in which it has a name."""
    return Path(trainer.default_root_dir) / f".trunk_cache-{trainer.node_rank}-{split}.bin"


def remove_leftovers(trainer: Trainer) -> None:
    """Remove files of a run that was killed while they had a name."""
    if trainer.local_rank == 0:
        for split in ("train", "validation"):
            store_path(trainer, split).unlink(missing_ok=True)
    trainer.strategy.barrier("FrozenTrunkCache: leftovers removed")


def _show(trainer: Trainer, what: str, done: int, total: int) -> None:
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(callback, ShowsWork):
            callback.show_work(what, done, total)

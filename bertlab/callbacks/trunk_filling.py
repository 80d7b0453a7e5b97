"""Filling a trunk store: every row once, in batches that depend on nothing but the rows."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
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


def filled_store(
    trainer: Trainer, split: str, blocks: int, max_bytes: int, dtype: torch.dtype | None
) -> TrunkStore:
    """Run the frozen blocks on the rows of a split, longest first, and keep what they give.

    What a row gets can depend, by rounding, on the batch that it is in; so batches are the same whenever, and on
    however many ranks, this is called. The ranks of a node share the work and the file.

    Args:
        trainer: of the task and the data.
        split: "train" or "validation".
        blocks: how many blocks are frozen.
        max_bytes: that may be kept.
        dtype: of what is kept; None: as it was computed.
    """
    task, rows = trainer.lightning_module, rows_of(trainer, split)
    assert isinstance(task, HasTrunk)
    unit = task.trunk_unit(blocks)
    assert unit is not None
    with torch.inference_mode(), trainer.precision_plugin.forward_context():
        shortest = rows.batch(np.array([int(np.argmin(rows.lengths))]))
        sample = task.trunk(shortest.to(task.device), blocks)
        with torch.inference_mode(False):  # what is read in training has to be usable there
            store = TrunkStore(store_path(trainer, split), rows.lengths, unit, sample, max_bytes, dtype)
        trainer.strategy.barrier("FrozenTrunkCache: mapped")
        store.hide()
        batches = sorted_batches(rows.lengths[store.rows], FILL_TOKENS)
        for number, places in enumerate(batches):
            batch = rows.batch(store.rows[places])
            store.expect(batch)
            if number % trainer.num_devices == trainer.local_rank:
                store.write(batch, task.trunk(batch.to(task.device), blocks))
            _show(trainer, f"Frozen trunk, {split}", number + 1, len(batches))
    trainer.strategy.barrier("FrozenTrunkCache: filled")
    return store


def filling(trainer: Trainer, blocks: int, max_bytes: int, dtype: torch.dtype | None) -> DataPass:
    """The pass of `filled_store` over the training split.

    Its pieces, the same on all ranks, begin with rows of a usual length.

    Args:
        trainer: of the task and the data.
        blocks: how many blocks are frozen.
        max_bytes: that may be kept.
        dtype: of what is kept; None: as it was computed.
    """
    task, rows = trainer.lightning_module, rows_of(trainer, "train")
    assert isinstance(task, HasTrunk)
    unit = task.trunk_unit(blocks)
    assert unit is not None

    def output(row_numbers: npt.NDArray[np.int64]) -> Tensor:
        with torch.inference_mode(), trainer.precision_plugin.forward_context():
            return task.trunk(rows.batch(row_numbers).to(task.device), blocks).to("cpu", dtype)

    sample = output(np.array([int(np.argmin(rows.lengths))]))
    kept = rows_with_room(rows.lengths, unit, max_bytes // (sample.shape[-1] * sample.itemsize))
    batches = [kept[places] for places in sorted_batches(rows.lengths[kept], FILL_TOKENS)]

    def pieces() -> Generator[int]:
        middle = len(batches) // 2
        for batch in batches[middle:] + batches[:middle]:
            output(batch)
            yield int(rows.lengths[batch].sum())

    tokens = [int(rows.lengths[batch].sum()) for batch in batches]
    amount = max(sum(tokens[rank :: trainer.num_devices]) for rank in range(trainer.num_devices))
    what = f"fills the cache: {len(kept):,} rows forward through {blocks} frozen blocks"
    return DataPass(what, f"{blocks} blocks", amount, pieces)


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
    task = trainer.lightning_module
    assert isinstance(task, HasTrunk)
    unit = task.trunk_unit(blocks)
    assert unit is not None
    lengths = np.zeros_like(rows_of(trainer, "train").lengths)  # of the other rows nothing is kept
    for batch in batches:
        lengths[batch.index.numpy()] = batch.lengths.numpy()
    with torch.inference_mode(), trainer.precision_plugin.forward_context():
        found = [task.trunk(batch.to(task.device), blocks) for batch in batches]
        with TemporaryDirectory() as folder, torch.inference_mode(False):
            store = TrunkStore(Path(folder) / "rows.bin", lengths, unit, found[0], MOST_BYTES, dtype)
        for batch, values in zip(batches, found, strict=True):
            store.expect(batch)
            store.write(batch, values)
    return store


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

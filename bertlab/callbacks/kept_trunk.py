"""KeptTrunk: what is kept of the output of frozen blocks in a training, and whether it still holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer

from bertlab.callbacks.trunk_filling import TrunkFilling, rows_of, store_of
from bertlab.callbacks.trunk_keys import watch_of
from bertlab.callbacks.trunk_lookup import TrunkLookup
from bertlab.callbacks.trunk_store import TrunkStore
from bertlab.interfaces import HasTrunk


class KeptTrunk:
    """Answers the task from its making on, until `forget`.

    Args:
        trainer: of the task and the data.
        max_bytes: of the rows of both splits on each node.
        dtype: of what is kept; None: as it was computed.

    Attributes:
        watch: of the blocks of the encoder.
        digest: of the weights that the rows are kept for.
    """

    def __init__(self, trainer: Trainer, max_bytes: int, dtype: torch.dtype | None) -> None:
        module = trainer.lightning_module
        assert isinstance(module, HasTrunk)
        self._trainer, self._max_bytes, self._dtype = trainer, max_bytes, dtype
        self.watch, self.digest = watch_of(module), 0
        self._lookup = TrunkLookup(module)
        module.known_trunk = self._lookup
        self._new_epoch = False

    def begin_epoch(self) -> None:
        """Look at the weights and the rows themselves."""
        self.watch.look_closely()
        self._new_epoch = True

    def drop(self) -> None:
        """Keep no row."""
        self._lookup.stores.clear()

    def follow(self, blocks: int) -> TrunkStore | None:
        """Keep the rows of the training split for the lowest blocks as they are now.

        Args:
            blocks: that are frozen.

        Returns:
            What is kept, if it was computed now; None: it held already.
        """
        lookup, digest = self._lookup, self.watch.digest(blocks)
        lookup.valid = (lookup.blocks, self.digest) == (blocks, digest)
        holds = lookup.valid and "train" in lookup.stores and not (self._new_epoch and self._lengths_differ())
        self._new_epoch = False
        if holds:
            return None
        self.drop()  # before the room is taken again
        store = TrunkFilling(self._trainer, "train", blocks, self._max_bytes, self._dtype).store()
        lookup.stores["train"], lookup.blocks, lookup.valid = store, blocks, True
        lookup.weights, self.digest = self.watch.weights(blocks), digest
        return store

    def follow_validation(self) -> None:
        """Keep the rows of the validation split too, if all are validated, by the weights that are trained."""
        lookup, trainer = self._lookup, self._trainer
        if not lookup.stores:
            return
        self.watch.look_closely()
        lookup.valid = self.watch.digest(lookup.blocks) == self.digest
        # A whole number limits the batches, a fraction of 1.0 does not.
        whole = isinstance(trainer.limit_val_batches, float) and trainer.limit_val_batches == 1.0
        if lookup.valid and whole and "validation" not in lookup.stores:
            room = self._max_bytes - lookup.stores["train"].bytes
            filling = TrunkFilling(trainer, "validation", lookup.blocks, room, self._dtype)
            lookup.stores["validation"] = filling.store()

    def keep_batches(self, batches: Sequence[Any], blocks: int) -> None:
        """Keep the rows of some micro-batches of the training split, whatever room there is.

        Args:
            batches: on the CPU.
            blocks: that are frozen.
        """
        self._lookup.stores["train"] = store_of(self._trainer, batches, blocks, self._dtype)
        self._lookup.blocks, self._lookup.weights = blocks, self.watch.weights(blocks)

    def forget(self) -> None:
        """Let go of everything, and be asked no more."""
        self._lookup.forget()

    def _lengths_differ(self) -> bool:
        return not np.array_equal(
            rows_of(self._trainer, "train").lengths, self._lookup.stores["train"].lengths
        )

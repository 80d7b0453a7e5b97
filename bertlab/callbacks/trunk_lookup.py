"""TrunkLookup: what a task asks for what is known of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from bertlab.callbacks.trunk_store import TrunkStore
from bertlab.interfaces import HasTrunk, TextBatch, Trunk


class TrunkLookup:
    """Answers with what is kept of the rows of a batch, and has the frozen blocks run for the other rows of it.

    Args:
        task: whose trunk it is; for validations within its training the rows of "validation" are looked up, else those
            of "train".
    """

    def __init__(self, task: LightningModule) -> None:
        self.task = task
        #: "train", "validation": what is kept of each split, of this many blocks.
        self.stores: dict[str, TrunkStore] = {}
        self.blocks = 0
        #: the parameters of these blocks.
        self.weights: Sequence[nn.Parameter] = ()
        #: False where the model holds other weights for a while.
        self.valid = True
        self._warned = False

    def __call__(self, batch: TextBatch) -> Trunk | None:
        """What the frozen blocks make of a batch; None: nothing is kept of any of its rows."""
        store = self.stores.get("validation" if self.task.trainer.validating else "train")
        if store is None or not self.valid or any(weight.requires_grad for weight in self.weights):
            return None  # the last: somebody wants their gradients for a while
        kept, changed = store.known(batch)
        if changed.any() and not self._warned:
            self._warned = True
            rank_zero_warn(
                f"FrozenTrunkCache: {int(changed.sum())} of {batch.size} rows of a batch are not those that the data "
                "module gave for its cache (augmented, or cut to another length); such rows are computed each time"
            )
        if not kept.any():
            return None
        values = store.read(batch.index.cpu()[kept], batch.lengths[kept]).to(batch.input_ids.device)
        return Trunk(self.blocks, values if kept.all() else self._completed(batch, kept, values))

    def forget(self) -> None:
        """Let go of everything, and be asked no more."""
        self.stores.clear()
        assert isinstance(self.task, HasTrunk)
        self.task.known_trunk = None

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """A copy of the task has weights of its own, of which nothing is known."""

    def _completed(self, batch: TextBatch, kept: Tensor, values: Tensor) -> Tensor:
        """The values of all rows, from those of the rows that are kept."""
        assert isinstance(self.task, HasTrunk)
        # Gradients stay on: frozen blocks have none, and what autocast has cast without them would be used again.
        computed = self.task.trunk(part_of(batch, ~kept), self.blocks)
        by_token = self.task.trunk_unit(self.blocks) == "token"
        places = (kept.repeat_interleave(batch.lengths) if by_token else kept).to(computed.device)
        complete = computed.new_empty(len(places), computed.shape[1])
        complete[places], complete[~places] = values, computed
        return complete


def part_of(batch: TextBatch, chosen: Tensor) -> TextBatch:
    """Some sequences of a batch, without labels.

    Args:
        batch: of texts.
        chosen: (S,) bool, on the CPU.
    """
    device = batch.input_ids.device
    tokens = chosen.repeat_interleave(batch.lengths).to(device)
    return TextBatch(
        input_ids=batch.input_ids[tokens],
        token_type_ids=batch.token_type_ids[tokens],
        lengths=batch.lengths[chosen],
        index=batch.index[chosen.to(device)],
    )

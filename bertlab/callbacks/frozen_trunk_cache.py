"""FrozenTrunkCache: what frozen blocks make of each row is computed once, and kept while they are frozen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.combination import FREEZING
from bertlab.callbacks.conductor import Conductor
from bertlab.callbacks.data_pass import DataPass
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.kept_trunk import KeptTrunk
from bertlab.callbacks.strategy import Run, Strategy
from bertlab.callbacks.trunk_filling import TrunkFilling, dividable_task, remove_leftovers
from bertlab.callbacks.trunk_keys import watch_of
from bertlab.callbacks.trunk_stages import frozen_now, why_none_is_worth_it
from bertlab.callbacks.trunk_store import GIB
from bertlab.callbacks.undone import Undone


class FrozenTrunkCache(Strategy):
    """Computes what the frozen lower blocks make of each row once, so that an epoch costs only what is trained.

    The features of a frozen encoder as Peters et al. 2019 (arXiv:1903.05987, section 2) extract them, kept for as long
    as another strategy, such as `StagedUnfreezing`, leaves the lowest blocks frozen. Kept is the output of the longest
    run of frozen blocks from the embeddings up: a vector for each token while some layers are trained; one for each
    row (the pooled output, the first token or the mean, as the head asks) when none is.

    The rows of the training split are run through the frozen blocks when the stage begins, longest first in full
    batches, those of the validation split at its first validation; later steps read. What is read so depends on the
    stage alone, not on when a run was killed and resumed.

    Results are those without it, up to rounding. Dropout in the frozen part is off, but so it is in all frozen blocks,
    with or without this strategy; masks of dropout above it are the same. Products of matrices round differently in
    batches of other sizes: of MiniLM's layers on a CPU some rows differ by 1e-6 in float32, few by 5e-4 in bf16-mixed.

    Rows beyond `max_gib`, and rows whose tokens are not those that the data module gave (augmented, cut to another
    length), are computed each time. What was kept is dropped when the frozen run, its weights or the lengths of the
    rows change: both are compared before each step, the weights themselves each epoch and validation. A validation of
    other weights (an average) is computed as usual. Nothing is kept in stages that are too short to gain (if all
    are, by their known lengths, that is said before training), nor where the model cannot be divided: of other models
    than BERT's kind the encoder has to be frozen as a whole.

    The ranks of a node share one file in the run directory, which has no name while it is used: it is gone when they
    end or are killed, and no checkpoint holds any of it. Strategies that perturb what frozen blocks see or do cannot be
    used beside it ("inputs" in their `touches`).

    Args:
        max_gib: of both splits on each node, in GiB; above 0. A vector takes 4 · D bytes.
        bfloat16: keep vectors in bfloat16: half the bytes, rounded to 8 bits.
        minimum_epochs: passes over the training split that a stage has to last, 0 or more; filling costs about one.
            Of a stage that ends on a plateau nobody knows, and it is cached.

    Raises:
        ValueError: an argument is out of its range.
    """

    touches: ClassVar[set[str]] = {"trunk"}
    stages = 1

    def __init__(self, max_gib: float = 4.0, bfloat16: bool = False, minimum_epochs: float = 1.5) -> None:
        if not 0 < max_gib < math.inf:
            raise ValueError(f"FrozenTrunkCache.max_gib takes a number of GiB above 0, got {max_gib}")
        if not minimum_epochs >= 0:
            raise ValueError(f"FrozenTrunkCache.minimum_epochs takes 0 epochs or more, got {minimum_epochs}")
        self.max_gib, self.bfloat16, self.minimum_epochs = max_gib, bfloat16, minimum_epochs
        self._dtype = torch.bfloat16 if bfloat16 else None
        self._run: Run | None = None
        self._kept: KeptTrunk | None = None
        #: what the last event on the timeline was about, and whether any was of rows that are kept.
        self._told: list[Any] = []
        self._has_kept = False

    def prepare(self, trainer: Trainer, blocks: Blocks, horizon: Horizon) -> None:
        """Refuse a task or data that it cannot work with; warn of an encoder that cannot be divided."""
        module = dividable_task(trainer)
        freezes = any(s.touches & FREEZING for s in Conductor.of(trainer).strategies)
        if freezes and module.trunk_unit(2) is None:
            rank_zero_warn(
                "FrozenTrunkCache: this encoder cannot be divided between its layers (it is not built as BERT, or "
                "encoder.padding_free is false), so only stages in which it is frozen as a whole are cached"
            )

    def never_acts(self, run: Run) -> str | None:
        """Whether anything is frozen, for long enough, as far as is known."""
        return why_none_is_worth_it(run.trainer, self.minimum_epochs)

    def left_undone(self, run: Run) -> Undone | None:
        """Whether nothing was ever kept, and why not."""
        if self._has_kept:
            return None
        why = f"the last time because {self._told[1]}" if self._told else "nothing, or the embeddings alone"
        return Undone(
            what="kept nothing of any row",
            waited_for="a stage with frozen lower blocks whose output it can keep",
            instead=f"What was frozen ({why}) was run anew in every step",
            advice="lower `minimum_epochs`, make such stages longer, or leave it out",
        )

    def untimed(self, run: Run) -> str | None:
        """That rows are read, whatever room there is, and that those of the validation split are kept too."""
        if not self._planned(run):
            return None
        return (
            "what frozen blocks make of each row is read and not computed; so they are timed, with every row kept "
            "(max_gib); the pass over the training split that fills the cache is a line of its own, the one over the "
            "validation split is left out, as validations are"
        )

    def pass_before(self, run: Run) -> DataPass | None:
        """The one that fills the cache when other blocks are frozen."""
        blocks = self._planned(run)
        if not blocks:
            return None
        return TrunkFilling(run.trainer, "train", blocks, self._max_bytes, self._dtype).timed()

    def before_timed_step(self, run: Run, batches: Sequence[Any]) -> None:
        """Keep the rows of the step."""
        self._forget()
        blocks = self._planned(run)
        if blocks:
            self._kept = KeptTrunk(run.trainer, self._max_bytes, self._dtype)
            self._kept.keep_batches(batches, blocks)

    def apply(self, run: Run) -> None:
        """Keep the run for events: what is kept follows what other strategies freeze."""
        self._run = run

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove what a killed run has left."""
        super().on_fit_start(trainer, pl_module)
        remove_leftovers(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Be asked by the task."""
        super().on_train_start(trainer, pl_module)
        self._kept = KeptTrunk(trainer, self._max_bytes, self._dtype)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the weights and the rows themselves."""
        super().on_train_epoch_start(trainer, pl_module)
        assert self._kept is not None
        self._kept.begin_epoch()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep what is frozen now, and only that."""
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        kept = self._kept
        assert kept is not None
        blocks, obstacle = frozen_now(kept.watch, trainer, self.minimum_epochs)
        if blocks == 0 or obstacle:
            kept.drop()
            if obstacle:
                facts = {"blocks": kept.watch.names(blocks), "because": obstacle}
                self._tell("not_cached", [blocks, obstacle], facts)
            return
        store = kept.follow(blocks)
        if store is not None:
            self._has_kept = True
            rows = {"rows": len(store.rows), "of": len(store.lengths), "mib": round(store.bytes / 2**20, 1)}
            self._tell("cached", [blocks, kept.digest], {"blocks": kept.watch.names(blocks), **rows})

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the rows of the validation split too."""
        super().on_validation_start(trainer, pl_module)
        if self._kept is not None:
            self._kept.follow_validation()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look closely again: other weights may have stood in the model."""
        super().on_validation_end(trainer, pl_module)
        if self._kept is not None:
            self._kept.watch.look_closely()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep nothing any longer."""
        super().on_train_end(trainer, pl_module)
        self._forget()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keep nothing any longer."""
        self._forget()
        super().on_exception(trainer, pl_module, exception)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave no trace."""
        self._forget()
        super().teardown(trainer, pl_module, stage)

    def state_dict(self) -> dict[str, Any]:
        """The stage, and which event came last; nothing that is kept of rows."""
        return super().state_dict() | {"told": list(self._told), "has_kept": self._has_kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._told, self._has_kept = list(state_dict["told"]), state_dict.get("has_kept", False)
        super().load_state_dict(state_dict)

    @property
    def _max_bytes(self) -> int:
        return int(self.max_gib * GIB)

    def _planned(self, run: Run) -> int:
        """Of how many blocks the output would be kept in the stage of a plan."""
        watch = watch_of(run.trainer.lightning_module)
        blocks, obstacle = frozen_now(watch, run.trainer, self.minimum_epochs)
        return 0 if obstacle else blocks

    def _tell(self, what: str, about: list[Any], facts: dict[str, Any]) -> None:
        """Put it on the timeline, unless the last event was about the same: a resumed run tells nothing twice."""
        if about != self._told:
            self._told = about
            assert self._run is not None
            self._run.note(what, **facts)

    def _forget(self) -> None:
        if self._kept is not None:
            self._kept.forget()
        self._kept = None

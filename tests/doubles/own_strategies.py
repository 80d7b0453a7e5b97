"""Strategies as a user would write them, of which bertlab knows nothing."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from bertlab.callbacks.strategy import AtFraction, EachEpoch, OnPlateau, Run, Strategy, TrainingPass


class Sharpened(Strategy):
    """Doubles the loss from half of training on."""

    when = AtFraction(0.5)
    touches: ClassVar[set[str]] = {"loss"}

    def apply(self, run: Run) -> None:
        if run.stage == 1:
            run.wrap_loss(self.doubled)
            run.note("sharpened", times=2)

    @staticmethod
    def doubled(p: TrainingPass) -> Tensor:
        return 2 * p.loss()


class WritesAtStages(Strategy):
    """Acts on files when stages begin and end, which a plan must not do."""

    when = EachEpoch()
    touches: ClassVar[set[str]] = {"checkpoints", "lr"}

    def apply(self, run: Run) -> None:
        run.scale_lr(run.all_blocks, 1.0)

    def on_stage_start(self, run: Run) -> None:
        run.trainer.save_checkpoint("stage_start.ckpt")

    def on_stage_end(self, run: Run) -> None:
        run.trainer.save_checkpoint("stage_end.ckpt")


class CountsEdits(Strategy):
    """Changes no gradient, but counts how often it could have."""

    touches: ClassVar[set[str]] = {"gradients"}
    edits: ClassVar[int] = 0

    def apply(self, run: Run) -> None:
        run.edit_gradients(self.count)

    @staticmethod
    def count() -> None:
        CountsEdits.edits += 1


class FreezesEmbeddings(Strategy):
    """Wants a say in what is trained."""

    touches: ClassVar[set[str]] = {"trainable"}

    def apply(self, run: Run) -> None:
        run.freeze(run.blocks.named("embeddings"))


class Unsaid(OnPlateau):
    """Waits, and does not say for which metric."""

    def watched_metrics(self) -> tuple[str, ...]:
        return ()


class WaitsUnsaid(Strategy):
    """Waits for a metric that nobody can know of before."""

    when = Unsaid("val/loss")

    def apply(self, run: Run) -> None:
        run.note("waited", stage=run.stage)

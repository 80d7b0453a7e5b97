"""RDrop: two passes with other dropout shall give the same answer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

from lightning.pytorch import Trainer
from torch import Tensor, nn

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.strategy import Run, Strategy, TrainingPass
from bertlab.interfaces import Block
from bertlab.losses.divergence import answer_divergence
from bertlab.losses.step_mean import step_mean


class RDrop(Strategy):
    """Trains on two passes with different dropout, and on how unlike their answers are.

    Liang et al. 2021, arXiv:2106.14448, eq. 4: −log p₁(y) − log p₂(y) + α·½·(KL(p₁‖p₂) + KL(p₂‖p₁)). Deviation: half of
    it, so that the loss stays comparable with that of one pass; α is the paper's. (The example in the authors' README
    halves the first two terms alone: its α is half of this one.)

    The divergence is that of the softmax where rows have one class (texts, or words with a tag), of the sigmoids,
    averaged over the classes, where they have any number, and the squared difference in regression; over all passes it
    is the mean over the rows of the optimizer step, so any split into micro-batches and ranks gives the same gradient.
    Class weights weigh the likelihood, not the divergence.

    Args:
        alpha: α, 0 or more. The paper has 0.1 to 1 for GLUE, 5 for translation.

    Raises:
        ValueError: α is negative or not finite; the task's rows have no labels.
    """

    touches: ClassVar[set[str]] = {"loss"}
    nesting: ClassVar[int] = 10

    def __init__(self, alpha: float = 1.0) -> None:
        if not 0 <= alpha < math.inf:
            raise ValueError(f"RDrop.alpha takes a number of 0 or more, got {alpha}")
        self.alpha = alpha
        #: what makes the two passes differ: other strategies, blocks that drop something.
        self._others: list[Strategy] = []
        self._dropping: list[Block] = []

    def prepare(self, trainer: Trainer, blocks: Blocks, horizon: Horizon) -> None:
        """See whether anything makes the two passes differ: dropout, or another strategy."""
        callbacks: list[Any] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        strategies = [c for c in callbacks if isinstance(c, Strategy) and "loss" in c.touches]
        # Within the passes: what stands around them does the same to both.
        self._others = [c for c in strategies if c.nesting < self.nesting]
        self._dropping = [
            block
            for block in blocks
            if any(has_dropout(inner) for module in block.modules for inner in module.modules())
        ]

    def works_on(self, blocks: Blocks) -> Iterable[nn.Parameter] | None:
        """What drops something, if nothing else makes the passes differ: frozen, it drops nothing."""
        return None if self._others else [p for block in self._dropping for p in block.parameters()]

    def never_acts(self, run: Run) -> str | None:
        """The answers need not agree, or always do."""
        if self.alpha == 0:
            return "alpha is 0, and the second pass is left out"
        if not self._others and not self._dropping:
            return "all dropout is 0, so that the two passes, which cost twice the time, are the same"
        return None

    def apply(self, run: Run) -> None:
        """Make two passes of each."""
        if self.alpha > 0:
            run.wrap_loss(self._two_passes)

    def _two_passes(self, p: TrainingPass) -> Tensor:
        labels, step_labels = (getattr(p.batch, name, None) for name in ("labels", "step_labels"))
        if labels is None or step_labels is None:
            raise ValueError(
                "RDrop compares the answers to rows with labels, and the batches of this task, "
                f"{type(p.batch).__name__}, have none: leave it out of trainer.callbacks"
            )
        one = p.loss()
        first = p.outputs
        other = p.loss()
        apart = answer_divergence(first, p.outputs, labels).sum()
        return (one + other + self.alpha * step_mean(apart, len(step_labels), p.batch.micro_batches)) / 2


def has_dropout(module: nn.Module) -> bool:
    """Whether a module drops anything: it is a dropout, or holds a rate, as attention of transformers does."""
    if isinstance(module, nn.Dropout):
        return module.p > 0
    rates = (value for name, value in vars(module).items() if "dropout" in name and isinstance(value, float))
    return any(rate > 0 for rate in rates)

"""Control: the hold that strategies together have of a task and its optimizers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.holding import Holding
from bertlab.callbacks.rates import StepFactors
from bertlab.callbacks.run import Run
from bertlab.callbacks.trainable import Found, train_blocks, wrap_again
from bertlab.callbacks.training_pass import unwrap_loss
from bertlab.interfaces import HasClassWeights


class Control:
    """Carries out what strategies want, from the beginning of a training to its end.

    Args:
        trainer: its optimizers are there.
        blocks: of the whole task.
    """

    def __init__(self, trainer: Trainer, blocks: Blocks) -> None:
        self._trainer, self._module, self._blocks = trainer, trainer.lightning_module, blocks
        self._factors = StepFactors(trainer.optimizers)
        self._class_weights: Tensor | None = None
        #: what was trained before; None while no strategy has a wish.
        self._found: Found | None = None

    def train_what_is_wanted(self, runs: Sequence[Run]) -> None:
        """Train what strategies want to be trained, of what is not frozen without them; without a wish all is left be.

        Args:
            runs: as the strategies see it in the stages that they are in.
        """
        wishes = [run.wishes for run in runs]
        chosen = next((w.trainable for w in wishes if w.trainable is not None), None)
        only = next((w.parameters for w in wishes if w.parameters is not None), None)
        if chosen is None and only is None:
            changed = self._leave()
        else:
            self._found = self._found or Found(self._blocks)
            blocks = list(self._blocks) if chosen is None else chosen
            changed = train_blocks(self._blocks, blocks, only, self._found.trained)
        if changed:
            wrap_again(self._trainer)

    def hold(self, holding: Holding) -> None:
        """Set the rates and the class weights of the next optimizer step."""
        self._factors.set(holding.factors)
        weights = holding.class_weights
        if isinstance(self._module, HasClassWeights) and not _equal(weights, self._class_weights):
            self._class_weights = None if weights is None else weights.clone()
            self._module.set_class_weights(weights)

    def release(self) -> None:
        """Leave no trace: rates are the schedule's; loss, class weights, and what is trained and how, the task's."""
        self._factors.remove()
        unwrap_loss(self._module)
        self._leave()
        if isinstance(self._module, HasClassWeights) and self._class_weights is not None:
            self._module.set_class_weights(None)

    def _leave(self) -> bool:
        """Leave parameters and modes as they were found; returns whether the set of trained ones has changed."""
        found, self._found = self._found, None
        return found is not None and found.restore()


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one, other)

"""StepWork: what strategies do to each optimizer step, in an order of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lightning.pytorch import LightningModule

from bertlab.callbacks.run import Run
from bertlab.callbacks.staged import Staged
from bertlab.callbacks.training_pass import LossWrapper, wrap_loss
from bertlab.interfaces import HasTrainingLoss

if TYPE_CHECKING:
    from bertlab.callbacks.strategy import Strategy


class StepWork:
    """Has the strategies of a training do their part in each optimizer step: once, though each of them asks for it.

    Their order does not depend on that of the configuration: by `nesting`, then by the names of their classes.

    Args:
        strategies: of the trainer.
        run_of: the run as a strategy sees it in the stage that it is in.
        steps: that have been taken before.
    """

    def __init__(self, strategies: Sequence[Strategy], run_of: Callable[[Staged], Run], steps: int) -> None:
        self._by_name = sorted(strategies, key=lambda s: s.state_key)
        self._by_nesting = sorted(self._by_name, key=lambda s: -s.nesting)
        self._run_of, self._steps = run_of, steps
        self._asked: set[str] = set()

    def wrap_loss(self, module: LightningModule) -> None:
        """Put the strategies' loss in the place of the task's, until `unwrap_loss`."""
        nested = [strategy for strategy in self._by_nesting if "loss" in strategy.touches]

        def wrappers() -> list[LossWrapper]:
            wishes = [self._run_of(strategy).wishes.loss for strategy in nested]
            return [wish for wish in wishes if wish is not None]

        if nested:
            assert isinstance(module, HasTrainingLoss)
            wrap_loss(module, wrappers)

    def edit_gradients(self, asked_by: Staged) -> None:
        """Change the gradients of the step that is about to be taken."""
        first = not self._asked or asked_by.state_key in self._asked
        self._asked = {asked_by.state_key} if first else self._asked | {asked_by.state_key}
        if not first:
            return
        # Those that put gradients together before those that change what there is: as their losses are nested.
        for strategy in self._by_nesting:
            edit = self._run_of(strategy).wishes.gradients
            if edit is not None:
                edit()

    def after(self, steps: int) -> None:
        """Act after a step, if one has been taken since this was called last: never between micro-batches of one.

        Args:
            steps: that have been taken.
        """
        if steps == self._steps:
            return
        self._steps = steps
        for strategy in self._by_name:
            strategy.after_step(self._run_of(strategy))

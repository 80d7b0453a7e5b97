"""Events: what strategies do, told to everything that keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Trainer

from bertlab.callbacks.run import Run
from bertlab.interfaces import RecordsEvents


class Events:
    """Tells the callbacks and loggers that are `RecordsEvents`.

    Args:
        trainer: whose callbacks and loggers.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def record(self, strategy: str, what: str, facts: dict[str, Any]) -> None:
        """Tell of an event, which happens now.

        Args:
            strategy: name of the strategy that acts.
            what: it does.
            facts: plain values.
        """
        trainer = self._trainer
        callbacks: list[Any] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        for keeper in [*callbacks, *trainer.loggers]:
            if isinstance(keeper, RecordsEvents):
                keeper.record_event(trainer.global_step, trainer.current_epoch, strategy, what, facts)

    def record_stage(self, strategy: str, run: Run, notes: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Tell that a strategy enters a stage, what it wants for it, and what it has noted.

        Args:
            strategy: its name.
            run: as the strategy sees it in the stage.
            notes: what, and facts, of each.
        """
        wishes = run.wishes
        self.record(strategy, "stage", {"stage": run.stage, "ends_at_step": run.stage_end})
        if wishes.trainable is not None:
            trained = {id(block) for block in wishes.trainable}
            names = [block.name for block in run.all_blocks if id(block) in trained]
            self.record(strategy, "trainable", {"blocks": names})
        static: dict[str, float] = {}
        for block, factor in ((b, f) for blocks, f in wishes.factors if not callable(f) for b in blocks):
            static[block.name] = static.get(block.name, 1.0) * factor
        if static:
            self.record(strategy, "lr", {"factors": static})
        weights = wishes.class_weights_at(0)
        if weights is not None:
            names = run.class_names()
            if weights.shape != (len(names),):
                raise ValueError(
                    f"{strategy} calls run.weight_classes with weights of shape {tuple(weights.shape)}; accepted is "
                    f"({len(names)},), in the order of run.class_names(): {', '.join(names)}"
                )
            named = dict(zip(names, weights.tolist(), strict=True))
            self.record(strategy, "class_weights", {"weights": named})
        for what, facts in notes:
            self.record(strategy, what, facts)

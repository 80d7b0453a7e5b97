"""Rehearsal: a fit that ends before its first step, when it has seen what all of its steps would be."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from lightning.pytorch import Callback, LightningModule, Trainer

# Raised by Lightning's own tuner to end a fit before its first step, with everything cleaned up.
from lightning.pytorch.utilities.exceptions import _TunerExitException  # pyright: ignore[reportPrivateUsage]
from lightning.pytorch.utilities.seed import isolate_rng
from rich.console import Console

import bertlab
from bertlab.planning.plan import Plan
from bertlab.planning.plan_settings import PlanSettings
from bertlab.planning.walk import Walk

_BERTLAB = Path(bertlab.__file__).parent


class Rehearsal(Callback):
    """Has to be the first callback to hear that training starts: it makes the plan, and training never starts.

    Until then everything is as in a fit, so what fit refuses is refused here.

    Args:
        name: of the run.
        settings: of the plan.
    """

    def __init__(self, name: str, settings: PlanSettings) -> None:
        self.name, self.settings = name, settings
        self.plan: Plan | None = None
        self._events: list[tuple[str, str, Mapping[str, Any]]] = []

    def record_event(self, step: int, epoch: int, strategy: str, what: str, facts: Mapping[str, Any]) -> None:
        """Keep what a strategy notes; see `bertlab.interfaces.RecordsEvents`."""
        self._events.append((strategy, what, facts))

    def take_events(self, strategy: str) -> list[tuple[str, Mapping[str, Any]]]:
        """What a strategy has noted since this was asked last."""
        found = [(what, facts) for name, what, facts in self._events if name == strategy]
        self._events = [event for event in self._events if event[0] != strategy]
        return found

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> NoReturn:
        """Make the plan and end the fit."""
        walk = Walk(trainer, self.settings, self.take_events)
        status = Console(stderr=True, quiet=not trainer.is_global_zero).status("planning")
        with status, isolate_rng(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            # Schedulers move here without optimizer steps between.
            warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler\.step\(\)` before")
            walk.go(status.update)
        ours = [warning for warning in caught if Path(warning.filename).is_relative_to(_BERTLAB)]
        self.plan = walk.plan(self.name, list(dict.fromkeys(str(warning.message) for warning in ours)))
        for warning in caught:
            if warning not in ours:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        raise _TunerExitException

"""StrategyStage: one stage of one strategy on the timeline of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bertlab.callbacks.trigger import Waited


@dataclass
class StrategyStage:
    """One stage of one strategy.

    Attributes:
        strategy: its name.
        stage: number, from 0.
        start: optimizer steps taken when it begins.
        end: when the next one begins, or training ends.
        waits_for: what it may end otherwise by, which nobody knows yet; None: it ends as is said here.
        notes: what the strategy does from its beginning on, as it will be on the timeline of the fit.
    """

    strategy: str
    stage: int
    start: int
    end: int
    waits_for: Waited | None = None
    notes: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

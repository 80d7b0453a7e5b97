"""What parts of bertlab may ask of callbacks and progress bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class ShowsWork(Protocol):
    """A progress bar that can show work beside the batches."""

    def show_work(self, what: str, done: int, total: int) -> None:
        """Show how much is done; called with done = total at the end."""
        ...


@runtime_checkable
class RecordsEvents(Protocol):
    """A callback or logger that keeps what strategies change: the timeline, Weights & Biases."""

    def record_event(self, step: int, epoch: int, strategy: str, what: str, facts: Mapping[str, Any]) -> None:
        """Keep one event.

        Args:
            step: optimizer steps taken before it.
            epoch: epochs finished before it.
            strategy: class name of the strategy that acts.
            what: what it did, a short word: "stage", "trainable", "restart", …
            facts: plain values (numbers, strings, lists of them).
        """
        ...


@runtime_checkable
class WatchesMetrics(Protocol):
    """A callback that waits for metrics of validations, and says for which before training."""

    def watched_metrics(self) -> Sequence[str]:
        """Their keys, such as "val/loss"; asked for when every callback before it has had its `on_fit_start`."""
        ...

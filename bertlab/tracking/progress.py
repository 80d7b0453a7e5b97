"""Progress: the progress bar, and what strategies do, above it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich import print as rich_print
from rich.markup import escape
from rich.progress import TaskID


class Progress(RichProgressBar):
    """Lightning's rich progress bar; every event of a strategy is a line above it."""

    _work: TaskID | None = None

    def record_event(self, step: int, epoch: int, strategy: str, what: str, facts: Mapping[str, Any]) -> None:
        """Show one event; see `bertlab.interfaces.RecordsEvents`."""
        if not self.is_enabled:
            return
        shown = ", ".join(f"{key} {_short(value)}" for key, value in facts.items())
        line = f"[dim]step {step}[/dim] [bold]{escape(strategy)}[/bold] {escape(what)}: {escape(shown)}"
        # The bar's own console, while there is one, so that the line does not tear the bar.
        if self.progress is not None:
            self.progress.console.print(line)
        else:
            rich_print(line)

    def show_work(self, what: str, done: int, total: int) -> None:
        """Show work beside the batches as a bar of its own; see `bertlab.interfaces.ShowsWork`."""
        if not self.is_enabled or self.progress is None:
            return
        if self._work is None:
            self._work = self._add_task(total, what)
        self._update(self._work, done)
        if done >= total:
            self.progress.remove_task(self._work)
            self._work = None

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What is shown beside the bar: no version number, which Lightning takes from the first logger."""
        items = super().get_metrics(trainer, pl_module)
        items.pop("v_num", None)
        return items


def _short(value: Any) -> str:
    """A value on a line: numbers to three digits, long lists by their ends."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_short(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        items = [_short(item) for item in value]
        return f"{items[0]} … {items[-1]}" if len(items) > 4 else " ".join(items)
    return str(value)

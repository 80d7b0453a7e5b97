"""Timeline: what strategies changed, and when."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from bertlab.tracking.atomic import atomic_file


class Timeline(Callback):
    """timeline.jsonl: one event a line, with step, epoch, strategy, what and facts.

    A line is written when the event happens. Each checkpoint remembers how many there were, and a resumed run
    drops the later ones, which it will meet again.

    Args:
        path: the file; an existing one is continued.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._events = len(self._lines())

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def record_event(self, step: int, epoch: int, strategy: str, what: str, facts: Mapping[str, Any]) -> None:
        """Keep one event; see `bertlab.interfaces.RecordsEvents`."""
        self._events += 1
        event = {"step": step, "epoch": epoch, "strategy": strategy, "what": what, "facts": _plain(facts)}
        self._write(json.dumps(event, ensure_ascii=False, allow_nan=False))

    def state_dict(self) -> dict[str, Any]:
        """How many events there are."""
        return {"events": self._events}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Drop the events that came after the checkpoint, if training goes on from it."""
        if trainer.state.fn != "fit":
            return
        known = checkpoint["callbacks"].get(self.state_key, {"events": 0})["events"]
        kept = self._lines()[:known]
        self._events = len(kept)
        if self._path.exists() and trainer.is_global_zero:
            with atomic_file(self._path) as file:
                file.write("".join(kept).encode())

    def _lines(self) -> list[str]:
        """The whole lines; a last one that a kill has cut off is dropped."""
        if not self._path.exists():
            return []
        lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [line for line in lines if line.endswith("\n")]

    @rank_zero_only
    def _write(self, line: str) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def _plain(value: Any) -> Any:
    """JSON has no infinity and no NaN: they are written as strings, everything else as it is."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value

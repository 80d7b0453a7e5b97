"""How long each training step of a Lightning run waits for its batch."""

from __future__ import annotations

import json
import time
from pathlib import Path

from lightning.pytorch.profilers import Profiler

FETCHING = ".train_dataloader_next"  # how Lightning's action ends in which it asks the loader for a batch


class WaitClock(Profiler):
    """Times only how long the training loop stands still until the loader has given it a batch.

    Args:
        path: of the JSON file that takes the seconds of each step, in order.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = Path(path)
        self._began = 0.0
        self._waits: list[float] = []

    def start(self, action_name: str) -> None:
        """A batch is asked for, or something else begins."""
        if action_name.endswith(FETCHING):
            self._began = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """The batch is there."""
        if action_name.endswith(FETCHING):
            self._waits.append(time.perf_counter() - self._began)

    def describe(self) -> None:
        """The run has ended: write."""
        self._path.write_text(json.dumps(self._waits), encoding="utf-8")

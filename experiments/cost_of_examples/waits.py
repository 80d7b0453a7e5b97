"""How long each training step of a Lightning run waits for its batch, and what CPU time it takes."""

from __future__ import annotations

import json
import time
from pathlib import Path

from lightning.pytorch.profilers import Profiler

FETCHING = ".train_dataloader_next"  # how Lightning's action ends in which it asks the loader for a batch


class WaitClock(Profiler):
    """Times how long the training loop stands still until the loader has given it a batch, and nothing else.

    Args:
        path: of the JSON file: `waits`, seconds of each step, in order, and `cpu`, the CPU time of this process, all of
            its threads, when each batch was there.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = Path(path)
        self._began = 0.0
        self._waits: list[float] = []
        self._cpu: list[float] = []

    def start(self, action_name: str) -> None:
        """A batch is asked for, or something else begins."""
        if action_name.endswith(FETCHING):
            self._began = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """The batch is there."""
        if action_name.endswith(FETCHING):
            self._waits.append(time.perf_counter() - self._began)
            self._cpu.append(time.process_time())

    def describe(self) -> None:
        """The run has ended: write."""
        self._path.write_text(json.dumps({"waits": self._waits, "cpu": self._cpu}), encoding="utf-8")

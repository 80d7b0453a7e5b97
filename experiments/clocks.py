"""When each training step began and ended, written down alike for Lightning and for the Hugging Face Trainer."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from transformers import TrainerCallback

from bertlab.interfaces import MultiTaskBatch, TextBatch
from experiments.turns import Place, Turns


def wait_for_gpu() -> None:
    """Until the GPU has done all that it was given, where this process uses one."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def gpu() -> dict[str, Any] | None:
    """Name and peak memory (of tensors, MiB) of the GPU that this process uses; None: it uses none."""
    if not torch.cuda.is_initialized():
        return None
    return {"name": torch.cuda.get_device_name(), "peak_mib": torch.cuda.max_memory_allocated() / 2**20}


class StepTimes:
    """Collects the times of steps by epoch, and writes them as JSON.

    A GPU is waited for at both points of a step: what was given to it before belongs to what came before.

    Args:
        turns: in which this process trains beside others.

    Attributes:
        epochs: for each epoch the seconds (of a clock that only grows) at which steps started and ended.
    """

    def __init__(self, turns: Turns | None = None) -> None:
        self.epochs: list[dict[str, list[float]]] = []
        self._turns = turns

    def begin_epoch(self) -> None:
        """The steps that follow belong to a new epoch."""
        self.epochs.append({"starts": [], "ends": []})

    def start(self) -> None:
        """A step begins: its batch is there, nothing has been done with it."""
        wait_for_gpu()
        if self._turns is not None:
            self._turns.begin_step(len(self.epochs[-1]["starts"]))
        self.epochs[-1]["starts"].append(time.perf_counter())

    def end(self) -> None:
        """The weights have been changed."""
        wait_for_gpu()
        self.epochs[-1]["ends"].append(time.perf_counter())

    def write(self, path: Path, rows_per_epoch: int, tokens_per_epoch: int) -> None:
        """Write everything, with how much an epoch holds (tokens without padding), and the GPU, if there is one."""
        content = {
            "in_turn": self._turns is not None,
            "gpu": gpu(),
            "rows_per_epoch": rows_per_epoch,
            "tokens_per_epoch": tokens_per_epoch,
            "epochs": self.epochs,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")


class LightningClock(Callback):
    """Times the steps of a fit, and a prediction as a whole.

    Args:
        path: of the JSON file; a prediction writes {"rows", "seconds"}, from its first batch being asked for to
            the end of everything.
        ring: folder of the ring in which the steps are done in turn with those of other processes; None: alone.
        place: of this process in the ring.
        places: of the ring.
    """

    def __init__(self, path: str, ring: str | None = None, place: int = 0, places: int = 1) -> None:
        self._path = Path(path)
        self._times = StepTimes(None if ring is None else Turns(Place(Path(ring), place, places)))
        self._rows, self._tokens = 0, 0
        self._began = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A new epoch."""
        self._times.begin_epoch()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: TextBatch | MultiTaskBatch, batch_idx: int
    ) -> None:
        """A step begins."""
        for part in batch.parts if isinstance(batch, MultiTaskBatch) else [batch]:
            self._rows += part.size
            self._tokens += len(part.input_ids)
        self._times.start()

    def on_train_batch_end(self, *_: Any) -> None:
        """A step has ended."""
        self._times.end()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write."""
        epochs = len(self._times.epochs)
        self._times.write(self._path, self._rows // epochs, self._tokens // epochs)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The model is loaded and the texts are tokenised."""
        self._began = time.perf_counter()

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: TextBatch, *_: Any
    ) -> None:
        """Count."""
        self._rows += batch.size

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Everything is done, the file of predictions too."""
        if stage == "predict":
            seconds = time.perf_counter() - self._began
            self._path.write_text(json.dumps({"rows": self._rows, "seconds": seconds}), encoding="utf-8")


class HuggingFaceClock(TrainerCallback):
    """Times the steps of the Hugging Face Trainer at the same points.

    Args:
        path: of the JSON file.
        rows: of the training split.
        tokens: of the training split, without padding.
        place: in the ring in which the steps are done in turn with those of other processes; None: alone.
    """

    def __init__(self, path: Path, rows: int, tokens: int, place: Place | None = None) -> None:
        self._path, self._rows, self._tokens = path, rows, tokens
        self._times = StepTimes(None if place is None else Turns(place))

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """A new epoch."""
        self._times.begin_epoch()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """A step begins."""
        self._times.start()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """A step has ended."""
        self._times.end()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Write."""
        self._times.write(self._path, self._rows, self._tokens)

"""StepMemory: the most bytes of tensors that a training step holds, as torch's allocators count them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.profiler import ProfilerActivity, profile


class StepMemory(Callback):
    """Appends {"step", "bytes"} to memory.jsonl for chosen steps: weights, optimizer state, what comes and goes.

    On a GPU it is the allocator's own peak. On a CPU torch reports each allocation to its profiler: their running sum
    over the step, at its highest, beside the weights and the optimizer's state, which are there before.

    Args:
        steps: which; not the first, in which the optimizer's state is made.
    """

    def __init__(self, steps: list[int]) -> None:
        self.steps = steps
        self._profile: profile | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step not in self.steps:
            return
        self._step, self._there = trainer.global_step, bytes_kept(trainer, pl_module)
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            return
        self._profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
        self._profile.__enter__()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step - 1 not in self.steps:
            return
        if self._profile is None:
            most = torch.cuda.max_memory_allocated()
        else:
            self._profile.__exit__(None, None, None)
            most, self._profile = self._there + most_allocated(self._profile), None
        with Path("memory.jsonl").open("a") as file:
            file.write(json.dumps({"step": self._step, "bytes": most}) + "\n")


def bytes_kept(trainer: Trainer, module: LightningModule) -> int:
    """Of parameters, buffers and the optimizer's state."""
    states = [value for state in trainer.optimizers[0].state.values() for value in state.values()]
    tensors = [*module.parameters(), *module.buffers(), *filter(torch.is_tensor, states)]
    return sum({t.data_ptr(): t.nbytes for t in tensors}.values())


def most_allocated(profiled: profile) -> int:
    """The highest running sum of what was allocated and given back."""
    trace = Path("trace.json")
    profiled.export_chrome_trace(str(trace))
    events = [e for e in json.loads(trace.read_text())["traceEvents"] if e["name"] == "[memory]"]
    most = now = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        now += event["args"]["Bytes"]
        most = max(most, now)
    return most

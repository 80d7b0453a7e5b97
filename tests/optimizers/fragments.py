"""The optimizers of configs/optimizers, made from their files as the command line makes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch.cli import OptimizerCallable
from torch.optim import Optimizer

from bertlab.optimizers.parameter_groups import build_optimizer, parameter_groups
from tests.callbacks.tiny import TinyTask

FOLDER = Path(__file__).parents[2] / "configs" / "optimizers"
FRAGMENTS = sorted(FOLDER.glob("*.yaml"))
NAMES = [path.stem for path in FRAGMENTS]


def spec(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def parser() -> ArgumentParser:
    """Of an optimizer whose default is a task's."""

    def task(optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=5e-5, fused=True)) -> None:
        """Take an optimizer."""

    made = ArgumentParser(exit_on_error=False)
    made.add_function_arguments(task, sub_configs=True)
    return made


def maker(path: Path, faster: float = 1.0) -> Callable[[Any], Optimizer]:
    """What a task gets as its `optimizer`; its rate `faster` times that of the file."""
    made = parser()
    found = made.parse_args(["--optimizer", str(path), "--optimizer.lr", str(faster * rate(path))])
    return made.instantiate(found).optimizer


def rate(path: Path) -> float:
    return float(spec(path)["init_args"]["lr"])


class OptimizedTask(TinyTask):
    """The tiny task under an optimizer of configs/optimizers, with layer decay."""

    def __init__(self, path: Path, faster: float = 100.0, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.path, self.faster = path, faster

    def configure_optimizers(self) -> Any:
        groups = parameter_groups(self.blocks(), None, layer_decay=0.9, model=self)
        return build_optimizer(maker(self.path, self.faster), groups)

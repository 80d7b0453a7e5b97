"""run.compile: what stands against it, and what it sets for the command."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import ExitStack
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from bertlab.callbacks.strategy import Strategy
from bertlab.tasks.text_task import TextTask

#: Programs of one function before torch would give up and run it as it is: for training, evaluation, precisions,
#: adapters, and what is frozen, below a layer and in it.
PROGRAMS = 64


def compile_model(model: LightningModule, trainer: Trainer, at_end: ExitStack) -> None:
    """Have the layers of the encoder compiled when they are first called.

    Args:
        model: the task.
        trainer: made, so that its devices and callbacks are known.
        at_end: takes what is put back when the command ends.

    Raises:
        ValueError: a strategy works on values within the layers; there is no C++ compiler for a CPU.
        TypeError: the task or its encoder has no layers that could be compiled.
    """
    if not isinstance(model, TextTask):
        raise TypeError(
            f"run.compile takes a task of bertlab.tasks, got {type(model).__name__}: set it to false"
        )
    callbacks: list[Any] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    for callback in callbacks:
        if isinstance(callback, Strategy) and "privacy" in callback.touches:
            raise ValueError(
                f"run.compile: {type(callback).__name__} takes the gradients of single sequences from within the "
                "layers, where compiled layers have no values to look at: set it to false, or take the strategy out of "
                "trainer.callbacks"
            )
    if trainer.strategy.root_device.type == "cpu" and shutil.which(_compiler()) is None:
        raise ValueError(
            f"run.compile on a CPU needs a C++ compiler, and there is no {_compiler()!r}: install one, name it by the "
            "environment's CXX, or set run.compile to false"
        )
    at_end.enter_context(torch.compiler.config.patch(recompile_limit=PROGRAMS))  # pyright: ignore[reportAttributeAccessIssue]
    model.compile_layers()


def _compiler() -> str:
    """The C++ compiler that torch takes."""
    return os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")

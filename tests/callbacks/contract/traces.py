"""What a training may leave behind in a task, its optimizer and its data, beside the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from bertlab.callbacks.strategy import Strategy
from tests.callbacks.averaging import weights
from tests.callbacks.contract.fragments import task
from tests.callbacks.tiny import TinyData, TinyTask


def own_task(strategies: Sequence[Strategy]) -> TinyTask:
    """The tiny task of a user who has frozen one parameter and put one layer into evaluation mode."""
    made = task(strategies)
    frozen_by_user(made).requires_grad_(False)
    made.layers[2].eval()
    return made


def frozen_by_user(made: TinyTask) -> nn.Parameter:
    layer: Any = made.layers[1]
    return layer[1].weight


def traces(trained: TinyTask, data: TinyData) -> dict[str, Any]:
    """By names: attributes, modes, hooks, what is frozen, and what of the data changes from step to step."""
    modules = {name: _attributes(module) for name, module in trained.named_modules()}
    parameters = {
        name: (parameter.requires_grad, _attributes(parameter), len(parameter._backward_hooks or ()))
        for name, parameter in trained.named_parameters()
    }
    return {
        "modules": modules,
        "parameters": parameters,
        "data": _attributes(data),
        "course": data.course.parts,
    }


def traces_of_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    """Its attributes and hooks, and what its groups hold."""
    groups = [
        {key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups
    ]
    return {"attributes": _attributes(optimizer), "groups": [set(group) for group in groups]}


def _attributes(of: Any) -> dict[str, Any]:
    """Kinds of the attributes of an instance; flags as they are, hooks by their number."""
    return {name: _kind(name, value) for name, value in sorted(vars(of).items())}


def _kind(name: str, value: Any) -> Any:
    if "hook" in name and isinstance(value, dict):
        return len(value)
    return value if isinstance(value, bool) else type(value).__name__


class Pause(Callback):
    """Ends the first fit after an epoch; keeps the weights that each fit begins and ends with."""

    def __init__(self) -> None:
        self.begun: list[dict[str, Tensor]] = []
        self.ended: list[dict[str, Tensor]] = []

    def on_train_start(self, trainer: Trainer, pl_module: TinyTask) -> None:
        self.begun.append(weights(pl_module))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: TinyTask) -> None:
        trainer.should_stop |= len(self.begun) == 1

    def on_train_end(self, trainer: Trainer, pl_module: TinyTask) -> None:
        self.ended.append(weights(pl_module))

"""What `run` guarantees to every strategy, watched from outside while a training runs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from tests.callbacks.contract.told_rates import ToldRates
from tests.callbacks.tiny import Timeline, TinyTask


class Guarantees(Callback):
    """Stands behind the strategies, and fails the training at the first step that breaks a guarantee.

    Args:
        timeline: of the same training.
    """

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.steps = 0
        self._groups: list[tuple[str, list[int]]] = []
        self._trained: set[int] | None = None
        self._weighs = False
        self._before: dict[int, Tensor] = {}
        self._rates = ToldRates(timeline)

    def on_train_start(self, trainer: Trainer, pl_module: TinyTask) -> None:
        self._groups = groups_of(trainer)
        # A resumed run has told of it before.
        self._weighs = resumed = trainer.global_step > 0
        if resumed:
            self._rates.resume(trainer)
        # Identity: each parameter once, in one group.
        counts = Counter(member for _, members in self._groups for member in members)
        assert set(counts.values()) == {1}, "a parameter is in one group"
        assert set(counts) == {id(p) for p in pl_module.parameters()}, "each parameter is in a group"
        owner = {member: block for block, members in self._groups for member in members}
        for parameter, holders in holders_of(pl_module).items():
            assert owner[parameter] == holders[0], "a shared weight belongs to the lowest block that holds it"

    def on_train_batch_start(self, trainer: Trainer, pl_module: TinyTask, batch: Any, batch_idx: int) -> None:
        self._before = {id(p): p.detach().clone() for p in pl_module.parameters()}
        for parameter in pl_module.parameters():
            if not parameter.requires_grad:
                assert parameter.grad is None, "what is frozen holds no gradient"

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: TinyTask, optimizer: Any) -> None:
        assert groups_of(trainer) == self._groups, "no group is added, removed or changed"
        trained = {id(p) for p in pl_module.parameters() if p.requires_grad}
        assert trained, "nothing is trained"
        for parameter in pl_module.parameters():
            assert torch.equal(parameter, self._before[id(parameter)]), "passes leave the model as it is"
            has = parameter.grad is not None
            assert parameter.requires_grad == has, "what is trained has a gradient, what is frozen has none"
        self._check_modes(pl_module, trained)
        self._check_events(trainer, pl_module, trained)
        self._rates.check(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: TinyTask, *_: Any) -> None:
        self.steps += 1
        for parameter in pl_module.parameters():
            if not parameter.requires_grad:
                assert torch.equal(parameter, self._before[id(parameter)]), (
                    "what is frozen stays, bit for bit"
                )

    def _check_modes(self, task: TinyTask, trained: set[int]) -> None:
        holders = holders_of(task)
        for block in task.blocks():
            own = {id(p) for p in block.parameters() if len(holders[id(p)]) == 1}
            if own & trained:
                assert all(module.training for top in block.modules for module in top.modules()), block.name
            elif own:
                dropouts = [m for top in block.modules for m in top.modules() if isinstance(m, nn.Dropout)]
                assert not any(module.training for module in dropouts), f"dropout of {block.name}, frozen"

    def _check_events(self, trainer: Trainer, task: TinyTask, trained: set[int]) -> None:
        events = self.timeline.events
        now = {what for step, _, what, _ in events if step == trainer.global_step}
        if self._trained is not None and trained != self._trained:
            assert now & {"trainable", "stage"}, "what is trained changes without an event"
        self._trained = trained
        if task.class_weights is not None and not self._weighs:
            assert any(what == "class_weights" for _, _, what, _ in events), "classes weigh without an event"
            self._weighs = True


def groups_of(trainer: Trainer) -> list[tuple[str, list[int]]]:
    return [
        (group["block"], [id(p) for p in group["params"]]) for group in trainer.optimizers[0].param_groups
    ]


def holders_of(task: TinyTask) -> dict[int, list[str]]:
    """The blocks that hold each parameter, from the lowest up."""
    found: dict[int, list[str]] = {}
    for block in task.blocks():
        for parameter in block.parameters():
            found.setdefault(id(parameter), []).append(block.name)
    return found

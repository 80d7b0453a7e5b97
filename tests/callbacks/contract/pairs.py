"""Pairs of the strategies of configs/callbacks: which go together, few that stand for all, and what is seen of them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from tests.callbacks.contract.fragments import FRAGMENTS, SaveAfter, clash, strategy
from tests.callbacks.tiny import Timeline

Pair = tuple[Path, Path]

PAIRS: list[Pair] = list(itertools.combinations(FRAGMENTS, 2))

#: Of the norm of all gradients of a step.
CLIP = 0.1

#: What a training does beside its strategies, and what each pair is tried under in its turn.
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"accumulate_grad_batches": 2},
    "bf16": {"precision": "bf16-mixed"},
    "clipped": {"gradient_clip_val": CLIP},
    "all": {"accumulate_grad_batches": 2, "precision": "bf16-mixed", "gradient_clip_val": CLIP},
}


def turn(pair: Pair) -> str:
    """The setting that a pair is tried under: each strategy comes under all of them, with other partners."""
    return list(SETTINGS)[sum(map(FRAGMENTS.index, pair)) % len(SETTINGS)]


@cache
def composing() -> tuple[Pair, ...]:
    """The pairs that go together."""
    made = {fragment: strategy(fragment) for fragment in FRAGMENTS}
    return tuple(pair for pair in PAIRS if not clash(*(made[fragment] for fragment in pair)))


def spread(pairs: Sequence[Pair]) -> list[Pair]:
    """As few of them as greed finds with every strategy among them, in an order that has nothing to do with names."""
    chosen: list[Pair] = []
    seen: set[Path] = set()
    for new in (2, 1):
        for pair in sorted(pairs, key=lambda pair: hashlib.blake2b(f"{label(pair)}".encode()).digest()):
            if len(set(pair) - seen) >= new:
                chosen.append(pair)
                seen.update(pair)
    return chosen


def label(pair: Pair) -> str:
    return "+".join(path.stem for path in pair)


class Norms(Callback):
    """The norm of all gradients that the optimizer gets, in each step."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        trainer.optimizers[0].register_step_post_hook(self._take)

    def _take(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        squares = [parameter.grad.square().sum() for parameter in held if parameter.grad is not None]
        self.norms.append(float(torch.stack(squares).sum().sqrt()))

    def check(self) -> None:
        """None is above the limit, and some would have been."""
        assert max(self.norms) <= CLIP * (1 + 1e-5)
        assert max(self.norms) >= CLIP * (1 - 1e-3)


class Marked(SaveAfter):
    """Remembers how many events the timeline held when each checkpoint was saved.

    Attributes:
        known: by optimizer steps taken.
    """

    def __init__(self, root: Path, steps: set[int]) -> None:
        super().__init__(root, steps)
        self.known: dict[int, int] = {}

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        (timeline,) = (callback for callback in trainer.callbacks if isinstance(callback, Timeline))
        self.known.setdefault(trainer.global_step, len(timeline.events))


def in_any_order(events: Sequence[Any]) -> list[str]:
    """Within a step events are in the order of the strategies in the list."""
    return sorted(map(str, events))

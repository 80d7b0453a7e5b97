"""The strategies of configs/callbacks, for the suites that hold whatever is found there to the same contract."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch import Callback

from bertlab.callbacks.frozen_trunk_cache import FrozenTrunkCache
from bertlab.callbacks.resources import BESIDE_PRIVACY, EXCLUSIVE
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.strategy import Strategy
from bertlab.callbacks.unfreezing_plans import Stage
from bertlab.tracking.checkpoints import settle_counters
from tests.callbacks.tiny import StepLog, Timeline, TinyTask, TinyTasks, fit

FRAGMENTS = sorted(Path("configs/callbacks").rglob("*.yaml"))
NAMES = [path.stem for path in FRAGMENTS]


def content(fragment: Path) -> dict[str, Any]:
    """`class_path` and `init_args`."""
    return yaml.safe_load(fragment.read_text())


def parser() -> ArgumentParser:
    made = ArgumentParser()
    made.add_subclass_arguments(Strategy, "strategy")
    return made


@cache
def parsed(fragment: Path) -> tuple[ArgumentParser, Namespace]:
    made = parser()
    return made, made.parse_object({"strategy": content(fragment)})


def strategy(fragment: Path) -> Strategy:
    """A new one, of a configuration that is read once."""
    made, found = parsed(fragment)
    return made.instantiate_classes(found).strategy


def clash(one: Strategy, other: Strategy) -> bool:
    """Whether two strategies are to be refused together."""
    return (
        type(one) is type(other)
        or bool(one.touches & other.touches & EXCLUSIVE)
        or (one.leads is not None and one.leads == other.leads)
        or {"trunk", "inputs"} <= one.touches ^ other.touches
        or ("privacy" in one.touches and not other.touches <= BESIDE_PRIVACY)
        or ("privacy" in other.touches and not one.touches <= BESIDE_PRIVACY)
        or ("average" in one.touches and other.puts_weights_back is not None)
        or ("average" in other.touches and one.puts_weights_back is not None)
    )


#: What a refusal says. Two of one class are refused by Lightning, since their states could not be told apart.
REFUSED = r"take one of them out|leave one of them out|more than one stateful"


def task(strategies: Sequence[Strategy], dropout: float = 0.1) -> TinyTask:
    """The tiny task; where a strategy works on several, two of them over one encoder."""
    made = TinyTasks if any(one.needs_tasks for one in strategies) else TinyTask
    return made(layers=6, pooler=True, dropout=dropout, validation_losses=[1.0, 0.9, 0.95, 0.8])


def with_work(strategies: Sequence[Strategy]) -> list[Strategy]:
    """The strategies, and what they need to act in a short training: to keep what is frozen, one that freezes."""
    found = list(strategies)
    for one in strategies:
        if isinstance(one, FrozenTrunkCache):
            one.minimum_epochs = 0.0
    touched = set[str]().union(*(one.touches for one in found))
    if "trunk" in touched and "trainable" not in touched:
        stages = [
            Stage(["head"], until_fraction=0.25),
            Stage(["layer.4-head"], until_fraction=0.75),
            Stage(["all"]),
        ]
        found.append(StagedUnfreezing(stages=stages))
    return found


class SaveAfter(Callback):
    """A checkpoint between optimizer steps, where bertlab saves its own: before anything of the next step.

    Args:
        root: of the files.
        steps: after how many optimizer steps.
    """

    def __init__(self, root: Path, steps: set[int]) -> None:
        self.root, self.steps = root, steps

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        settle_counters(trainer)
        if batch_idx % trainer.accumulate_grad_batches == 0 and trainer.global_step in self.steps:
            trainer.save_checkpoint(self.root / f"step={trainer.global_step}.ckpt")


def run(
    strategies: Sequence[Strategy], root: Path, **arguments: Any
) -> tuple[TinyTask, list[Any], list[Any], Any]:
    """Weights, what held in each step, events, optimizer state after four epochs of six steps; see `with_work`."""
    log, timeline = StepLog(), Timeline()
    callbacks = (log, timeline, *arguments.pop("callbacks", ()))
    trained, trainer = fit(
        with_work(strategies),
        root,
        task=arguments.pop("task", None) or task(strategies, arguments.pop("dropout", 0.1)),
        epochs=4,
        callbacks=callbacks,
        **arguments,
    )
    return trained, log.steps, timeline.events, trainer.optimizers[0].state_dict()

"""What every strategy must hold, alone and in pairs: applied to every fragment in configs/callbacks.

A new strategy is covered by its fragment; nothing here names one.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import pkgutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback

import bertlab.callbacks
from bertlab.callbacks.run import BESIDE_PRIVACY, EXCLUSIVE
from bertlab.callbacks.strategy import Strategy
from bertlab.tracking.checkpoints import settle_counters
from tests.bits import assert_equal
from tests.callbacks.tiny import StepLog, Timeline, TinyTask, TinyTasks, fit
from tests.doubles.same_on_both_ranks import SameOnBothRanks
from tests.ranks import on_two_ranks

FRAGMENTS = sorted(Path("configs/callbacks").rglob("*.yaml"))
NAMES = [path.stem for path in FRAGMENTS]
PAIRS = list(itertools.combinations(FRAGMENTS, 2))


def parser() -> ArgumentParser:
    made = ArgumentParser()
    made.add_subclass_arguments(Strategy, "strategy")
    return made


def strategy(fragment: Path) -> Strategy:
    made = parser()
    found = made.parse_object({"strategy": yaml.safe_load(fragment.read_text())})
    return made.instantiate_classes(found).strategy


def task(fragments: tuple[Path, ...], dropout: float = 0.1) -> TinyTask:
    """The tiny task; where a strategy works on several, two of them over one encoder."""
    made = TinyTasks if any(strategy(fragment).needs_tasks for fragment in fragments) else TinyTask
    return made(layers=6, pooler=True, dropout=dropout, validation_losses=[1.0, 0.9, 0.95, 0.8])


class SaveEachStep(Callback):
    """A checkpoint between any two optimizer steps, where bertlab saves its own: before anything of the next step."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        settle_counters(trainer)
        if batch_idx % trainer.accumulate_grad_batches == 0:
            trainer.save_checkpoint(self.root / f"step={trainer.global_step}.ckpt")


def run(
    fragments: tuple[Path, ...], root: Path, **arguments: Any
) -> tuple[TinyTask, list[Any], list[Any], Any]:
    """Weights, what held in each step, events, optimizer state after four epochs of six steps."""
    log, timeline = StepLog(), Timeline()
    callbacks = (log, timeline, *arguments.pop("callbacks", ()))
    trained, trainer = fit(
        [strategy(fragment) for fragment in fragments],
        root,
        task=task(fragments, arguments.pop("dropout", 0.1)),
        epochs=4,
        callbacks=callbacks,
        **arguments,
    )
    return trained, log.steps, timeline.events, trainer.optimizers[0].state_dict()


def clash(fragments: tuple[Path, ...]) -> bool:
    one, other = (strategy(fragment) for fragment in fragments)
    return (
        type(one) is type(other)
        or bool(one.touches & other.touches & EXCLUSIVE)
        or (one.leads is not None and one.leads == other.leads)
        or {"trunk", "inputs"} <= one.touches ^ other.touches
        or ("privacy" in one.touches and not other.touches <= BESIDE_PRIVACY)
        or ("privacy" in other.touches and not one.touches <= BESIDE_PRIVACY)
    )


def test_every_strategy_has_a_fragment() -> None:
    found: set[str] = set()
    for info in pkgutil.iter_modules(bertlab.callbacks.__path__, "bertlab.callbacks."):
        for _, made in inspect.getmembers(importlib.import_module(info.name), inspect.isclass):
            concrete = issubclass(made, Strategy) and made is not Strategy and not inspect.isabstract(made)
            if concrete and made.__module__ == info.name:
                found.add(f"{made.__module__}.{made.__qualname__}")
    assert found
    assert found == {yaml.safe_load(fragment.read_text())["class_path"] for fragment in FRAGMENTS}


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=NAMES)
def test_round_trips_through_yaml(fragment: Path) -> None:
    made = parser()
    found = made.parse_object({"strategy": yaml.safe_load(fragment.read_text())})
    again = made.parse_string(made.dump(found))
    assert made.dump(again) == made.dump(found)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("fragment", FRAGMENTS, ids=NAMES)
def test_killed_and_resumed_is_never_killed(fragment: Path, accumulate: int, tmp_path: Path) -> None:
    saver = SaveEachStep(tmp_path)
    common: dict[str, Any] = {"accumulate_grad_batches": accumulate, "enable_checkpointing": True}
    whole = run((fragment,), tmp_path, callbacks=(saver,), **common)
    total = 24 // accumulate
    for step in sorted({1, 2, 4, 6, 7, total // 2, total - 1}):
        resumed = run((fragment,), tmp_path, ckpt_path=tmp_path / f"step={step}.ckpt", **common)
        assert_equal(resumed[1], whole[1][step:], f"steps after {step}")
        assert_equal(dict(resumed[0].state_dict()), dict(whole[0].state_dict()), f"weights after {step}")
        assert_equal(resumed[3], whole[3], f"optimizer after {step}")
        assert resumed[2] == [event for event in whole[2] if event[0] >= max(step, 1)], f"events after {step}"


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "+".join(path.stem for path in pair))
def test_pairs_compose_in_any_order_or_refuse_by_name(pair: tuple[Path, Path], tmp_path: Path) -> None:
    if clash(pair):
        names = [type(strategy(fragment)).__name__ for fragment in pair]
        # Two of one class are refused by Lightning, since their states could not be told apart.
        with pytest.raises(
            (ValueError, RuntimeError), match=r"take one of them out|more than one stateful"
        ) as refused:
            run(pair, tmp_path)
        assert all(name in str(refused.value) for name in names)
        return
    saver = SaveEachStep(tmp_path)
    one = run(pair, tmp_path, callbacks=(saver,), enable_checkpointing=True)
    other = run(pair[::-1], tmp_path)
    assert_equal(dict(one[0].state_dict()), dict(other[0].state_dict()))
    assert one[1] == other[1]
    resumed = run(pair[::-1], tmp_path, ckpt_path=tmp_path / "step=10.ckpt")
    assert_equal(dict(resumed[0].state_dict()), dict(one[0].state_dict()))


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=NAMES)
def test_bf16_and_clipping(fragment: Path, tmp_path: Path) -> None:
    trained, steps, *_ = run((fragment,), tmp_path, precision="bf16-mixed", gradient_clip_val=0.1)
    assert len(steps) == 24
    assert all(parameter.isfinite().all() for parameter in trained.parameters())


def on_a_rank(choices: list[tuple[Path, ...]], root: Path) -> list[dict[str, torch.Tensor]]:
    found: list[dict[str, torch.Tensor]] = []
    for chosen in choices:
        trained, *_ = run(
            chosen,
            root,
            dropout=0.0,
            callbacks=(SameOnBothRanks(),),
            devices=2,
            strategy="ddp",
            use_distributed_sampler=False,
        )
        found.append({name: value.clone() for name, value in trained.state_dict().items()})
    return found


def test_two_ranks_stay_equal_and_do_what_one_does(tmp_path: Path) -> None:
    """Trap 1: what is unfrozen after DDP has wrapped the model is trained alike on every rank."""
    choices = [(fragment,) for fragment in FRAGMENTS]
    choices += [pair for pair in PAIRS if not clash(pair)][:4]
    ranks = on_two_ranks(on_a_rank, tmp_path, choices, tmp_path)
    for index, chosen in enumerate(choices):
        assert_equal(ranks[0][index], ranks[1][index], chosen)
        if any(strategy(fragment).depends_on_split for fragment in chosen):
            continue
        alone = run(chosen, tmp_path, dropout=0.0)[0].state_dict()
        for name, value in ranks[0][index].items():
            torch.testing.assert_close(value, alone[name], rtol=1e-3, atol=1e-5, msg=f"{name} of {chosen}")

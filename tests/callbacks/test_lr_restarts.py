from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from bertlab.callbacks.lr_restarts import LrRestarts
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.unfreezing_plans import Stage
from tests.callbacks.tiny import StepLog, Timeline, TinyTask, fit


def factors(log: StepLog) -> list[float]:
    """The factor of each step: the rate of the head over the schedule's, 0.01 × (1 − step / 100)."""
    return [entry["lr"]["head"] / (0.01 * (1 - step / 100)) for step, entry in enumerate(log.steps)]


def restarts(timeline: Timeline) -> list[tuple[int, int]]:
    return [(step, facts["steps"]) for step, _, what, facts in timeline.events if what == "restart"]


def test_equals_torch_warm_restarts(tmp_path: Path) -> None:
    log = StepLog()
    fit([LrRestarts(cycle_steps=6, multiplier=2.0)], tmp_path, callbacks=(log,))  # cycles of 6 and 12
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=6, T_mult=2)
    for factor in factors(log):
        assert factor == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()


def test_peak_decay_warmup_and_minimum(tmp_path: Path) -> None:
    log = StepLog()
    strategy = LrRestarts(cycle_epochs=1, peak_decay=0.5, warmup_fraction=1 / 3, minimum_factor=0.1)
    fit([strategy], tmp_path, callbacks=(log,))
    found = factors(log)
    assert found[0] == pytest.approx(0.1)
    assert found[1] == pytest.approx(0.1 + 0.9 / 2)  # halfway up
    assert found[2] == pytest.approx(1.0)
    assert found[8] == pytest.approx(0.5)
    assert found[14] == pytest.approx(0.25)
    assert found[5] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 3 / 4)))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"cycle_steps": 9}, [(0, 9), (9, 9)]),
        ({"cycle_fraction": 0.5}, [(0, 9), (9, 9)]),
        ({"cycle_steps": 7}, [(0, 7), (7, 7), (14, 4)]),  # a rest of more than half is a shorter cycle
        ({"cycle_steps": 8}, [(0, 8), (8, 10)]),  # a rest of less than half joins
        ({"cycle_steps": 40}, [(0, 18)]),
        ({"at": "stage"}, [(0, 6), (6, 6), (12, 6)]),  # without unfreezing: each epoch
    ],
)
def test_where_cycles_begin_and_how_long_they_are(
    arguments: dict[str, Any], expected: list[Any], tmp_path: Path
) -> None:
    timeline = Timeline()
    fit([LrRestarts(**arguments)], tmp_path, callbacks=(timeline,))
    assert restarts(timeline) == expected


def test_restarts_with_the_stages_of_unfreezing(tmp_path: Path) -> None:
    timeline = Timeline()
    by_hand = [Stage(["head"], until_step=4), Stage(["all"])]
    fit([LrRestarts(at="stage"), StagedUnfreezing(stages=by_hand)], tmp_path, callbacks=(timeline,))
    assert restarts(timeline) == [(0, 4), (4, 14)]


def test_without_stages_or_epochs_it_says_that_it_never_restarts(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    fit([LrRestarts(at="stage")], tmp_path, epochs=1)
    (found,) = [str(warning.message) for warning in recwarn if "LrRestarts" in str(warning.message)]
    assert "no strategy of this run unfreezes in stages" in found
    recwarn.clear()
    fit([LrRestarts(at="stage")], tmp_path, epochs=3)  # with each epoch
    fit([LrRestarts(at="stage"), StagedUnfreezing(stage_epochs=0.2)], tmp_path, epochs=1)
    assert not [warning for warning in recwarn if "LrRestarts" in str(warning.message)]


def test_restarts_on_a_plateau(tmp_path: Path) -> None:
    timeline, log = Timeline(), StepLog()
    task = TinyTask(validation_losses=[1.0, 1.0, 0.5, 0.6])
    strategy = LrRestarts(at="plateau", plateau="val/loss", cycle_steps=5, minimum_factor=0.2)
    fit([strategy], tmp_path, task=task, callbacks=(timeline, log), epochs=4)
    assert restarts(timeline) == [(0, 5), (12, 5)]
    # Longer than its cycle, a stage waits at the minimum for the plateau.
    assert factors(log)[5:12] == pytest.approx([0.2] * 7)


def test_snapshots(tmp_path: Path) -> None:
    timeline = Timeline()
    task, _ = fit([LrRestarts(cycle_epochs=1, save_cycles=True)], tmp_path, callbacks=(timeline,))
    files = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert files == ["cycle-0.ckpt", "cycle-1.ckpt", "cycle-2.ckpt"]
    last = torch.load(tmp_path / "checkpoints/cycle-2.ckpt", weights_only=True)
    first = torch.load(tmp_path / "checkpoints/cycle-0.ckpt", weights_only=True)
    assert first["global_step"] == 6
    assert torch.equal(last["state_dict"]["head.weight"], task.head.weight)
    assert not torch.equal(first["state_dict"]["head.weight"], task.head.weight)
    assert [facts["file"] for *_, what, facts in timeline.events if what == "snapshot"] == [
        f"checkpoints/{name}" for name in files
    ]


def test_unknown_stage_length_needs_a_cycle_length(tmp_path: Path) -> None:
    stages = StagedUnfreezing(plateau="val/loss")
    with pytest.raises(ValueError, match=r"LrRestarts at 'stage'.*give cycle_steps, cycle_epochs or"):
        fit([stages, LrRestarts(at="stage")], tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "'cycle' needs one of cycle_steps, cycle_epochs, cycle_fraction"),
        ({"cycle_steps": 3, "cycle_epochs": 1}, "cycle_steps and cycle_epochs clash"),
        ({"cycle_steps": 0}, "cycle_steps takes a number above 0"),
        ({"cycle_steps": 3, "multiplier": 0.5}, "multiplier takes 1 or more"),
        ({"cycle_steps": 3, "peak_decay": 0.0}, "peak_decay"),
        ({"cycle_steps": 3, "warmup_fraction": 1.0}, "warmup_fraction"),
        ({"cycle_steps": 3, "minimum_factor": -0.1}, "minimum_factor"),
        ({"cycle_steps": 3, "plateau": "val/loss"}, "`plateau`, the metric to watch, goes with at: plateau"),
        ({"at": "plateau", "cycle_steps": 3}, "`plateau`, the metric to watch, goes with at: plateau"),
        ({"at": "epoch"}, "'epoch'; accepted are 'cycle', 'stage', 'plateau'"),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LrRestarts(**arguments)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.unfreezing_plans import Stage, planned
from tests.bits import assert_equal
from tests.callbacks.contract.fragments import SaveAfter, run
from tests.callbacks.tiny import StepLog, Timeline, TinyTask, fit

ALL = ["embeddings", "layer.0", "layer.1", "layer.2", "head"]


def stages(log: StepLog) -> list[tuple[int, list[str]]]:
    """(first step, trained blocks) of each stage."""
    found: list[tuple[int, list[str]]] = []
    for step, entry in enumerate(log.steps):
        if not found or found[-1][1] != entry["trained"]:
            found.append((step, entry["trained"]))
    return found


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # Five stages, four of them over the first half of 18 steps.
        ({}, [(0, ALL[4:]), (2, ALL[3:]), (4, ALL[2:]), (7, ALL[1:]), (9, ALL)]),
        ({"blocks_per_stage": 2, "stage_epochs": 1}, [(0, ALL[4:]), (6, ALL[2:]), (12, ALL)]),
        ({"plan": "top_k", "top": 2, "stage_steps": 3}, [(0, ALL[4:]), (3, ALL[2:])]),
        (
            {"plan": "chain_thaw", "stage_fraction": 1 / 6},
            [(0, ["head"]), (3, ALL[:1]), (6, ALL[1:2]), (9, ALL[2:3]), (12, ALL[3:4]), (15, ALL)],
        ),
        (
            {
                "stages": [
                    Stage(["all"], until_step=4),
                    Stage(["layer.1-head"], until_epoch=1.5),
                    Stage([r"layer\.\d", "head"], until_fraction=0.75),
                    Stage(["head"]),
                ]
            },
            [(0, ALL), (4, ALL[2:]), (9, ALL[1:]), (14, ALL[4:])],
        ),
    ],
)
def test_plans(arguments: dict[str, Any], expected: list[Any], tmp_path: Path) -> None:
    log = StepLog()
    fit([StagedUnfreezing(**arguments)], tmp_path, callbacks=(log,))
    assert stages(log) == expected


def test_rate_of_a_stage(tmp_path: Path) -> None:
    log = StepLog()
    by_hand = [Stage(["head"], until_step=6, lr_factor=2.0), Stage(["all"], lr_factor=0.5)]
    fit([StagedUnfreezing(stages=by_hand, lr_decay=0.5)], tmp_path, callbacks=(log,))
    assert log.steps[0]["lr"]["head"] == pytest.approx(0.01 * 2)
    assert log.steps[6]["lr"]["head"] == pytest.approx(0.01 * 0.94 * 0.5)
    assert log.steps[6]["lr"]["embeddings"] == pytest.approx(0.01 * 0.94 * 0.5 * 0.5**4)


def test_plateaus_move_on(tmp_path: Path) -> None:
    log = StepLog()
    task = TinyTask(validation_losses=[1.0, 1.0, 0.5, 0.6, 0.1])  # worse in epochs 1 and 3 (from 0)
    strategy = StagedUnfreezing(blocks_per_stage=2, plateau="val/loss")
    fit([strategy], tmp_path, task=task, callbacks=(log,), epochs=5)
    assert stages(log) == [(0, ALL[4:]), (12, ALL[2:]), (24, ALL)]


def test_best_weights_of_a_stage_are_put_back(tmp_path: Path) -> None:
    timeline, kept = Timeline(), {}

    class Look(StepLog):
        def on_train_batch_start(self, trainer: Any, pl_module: TinyTask, batch: Any, batch_idx: int) -> None:
            kept[trainer.global_step] = {n: p.detach().clone() for n, p in pl_module.named_parameters()}

    task = TinyTask(validation_losses=[1.0, 0.5, 0.7, 0.6])  # best after step 12
    strategy = StagedUnfreezing(plan="top_k", top=1, stage_epochs=3, restore_best="val/loss")
    fit([strategy, Look()], tmp_path, task=task, callbacks=(timeline,), epochs=4)  # type: ignore[list-item]
    # At step 18 the second stage begins with the weights that step 12 began with.
    for name, weights in kept[18].items():
        assert torch.equal(weights, kept[12][name]), name
    assert not torch.equal(kept[12]["head.weight"], kept[17]["head.weight"])
    assert (18, "StagedUnfreezing", "restore_best", {"value": 0.5, "of_step": 12}) in timeline.events


def test_best_weights_outlive_a_kill_before_the_next_stage(tmp_path: Path) -> None:
    """Bit for bit: what is trained, told and left is that of a training which was never killed."""

    def train(**arguments: Any) -> Any:
        strategy = StagedUnfreezing(plan="top_k", top=1, stage_epochs=3, restore_best="val/loss")
        task = TinyTask(validation_losses=[1.0, 0.5, 0.7, 0.6])  # best after step 12
        return run([strategy], tmp_path, task=task, enable_checkpointing=True, **arguments)

    whole = train(callbacks=(SaveAfter(tmp_path, {12, 16}),))
    assert (18, "StagedUnfreezing", "restore_best", {"value": 0.5, "of_step": 12}) in whole[2]
    for step in (12, 16):
        weights, steps, events, optimizer = train(ckpt_path=tmp_path / f"step={step}.ckpt")
        assert events == [event for event in whole[2] if event[0] >= step]
        assert_equal(steps, whole[1][step:], f"steps after {step}")
        assert_equal(dict(weights.state_dict()), dict(whole[0].state_dict()), f"weights after {step}")
        assert_equal(optimizer, whole[3], f"optimizer after {step}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stage_steps": 3, "plateau": "val/loss"}, "stage_steps and plateau clash"),
        ({"stage_epochs": 0}, "stage_epochs takes a number above 0, got 0"),
        ({"plan": "bottom_up"}, "'bottom_up'; accepted are gradual, top_k, chain_thaw"),
        ({"plan": "top_k"}, "plan top_k needs `top`"),
        ({"top": 3}, "plan top_k needs `top`"),
        ({"stages": []}, "stages is empty"),
        ({"stages": [Stage(["all"])], "stage_steps": 3}, "stage_steps belongs to a plan and clashes"),
        ({"blocks_per_stage": 0}, "blocks_per_stage takes 1 or more"),
        ({"spread_fraction": 0.0}, r"spread_fraction: 0.0 is not in \(0, 1\]"),
        ({"lr_decay": 0.0}, "lr_decay takes a factor above 0"),
        ({"mode": "maximum", "restore_best": "val/f1"}, "mode: 'maximum'; accepted are min, max"),
        ({"patience": 0, "plateau": "val/f1"}, "patience takes 1 validation or more, got 0"),
        *(
            ({"stages": [Stage(["head"], **keys), Stage(["all"])]}, f"stages, stage 0: {message}")
            for keys, message in [
                ({"until_fraction": 1.5}, r"until_fraction: .* fractions of training in \[0, 1\], got 1.5"),
                ({"until_step": -3}, "until_step: .* 0 or more, got -3"),
                ({"until_epoch": float("nan")}, "until_epoch: .* 0 or more, got nan"),
                ({"until_plateau": "val/f1", "patience": 0}, "until_plateau: .* patience of 1"),
                (
                    {"until_step": 3, "until_epoch": 1},
                    "until_step and until_epoch clash: a stage ends in one way",
                ),
                ({"until_step": 3, "lr_factor": -1.0}, "lr_factor takes a factor of 0 or more, got -1"),
            ]
        ),
        ({"stages": [Stage([])]}, "stages, stage 0: train is empty"),
    ],
)
def test_arguments_that_clash(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StagedUnfreezing(**arguments)


@pytest.mark.parametrize(
    ("by_hand", "message"),
    [
        (
            [Stage(["layer.9"])],
            "stages, stage 0: 'layer.9' matches no block; the blocks are embeddings, layer.0",
        ),
        ([Stage([r"block\..*"])], r"matches no block"),
        (
            [Stage(["head"], until_step=9), Stage(["all"], until_step=6), Stage(["all"])],
            "overlap or go backwards",
        ),
        ([Stage(["head"], until_epoch=1), Stage(["all"], until_step=6), Stage(["all"])], "stage 1 .* step 6"),
        ([Stage(["head"]), Stage(["all"])], "stage 0 has none"),
        ([Stage(["head"], until_step=3)], "the last has none; stage 0 has one"),
    ],
)
def test_stages_that_cannot_be(by_hand: list[Stage], message: str, tmp_path: Path) -> None:
    task = TinyTask()
    with pytest.raises(ValueError, match=message):
        fit([StagedUnfreezing(stages=by_hand)], tmp_path, task=task)
    assert task.losses == []


def test_a_metric_that_nobody_logs(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no metric 'val/f2' was logged by validation; there are .*val/loss"
    ):
        fit([StagedUnfreezing(restore_best="val/f2")], tmp_path)


def test_gradual_takes_the_rest_in_a_last_short_stage() -> None:
    names = ["embeddings", *(f"layer.{i}" for i in range(4)), "pooler", "head"]
    sizes = [len(stage) for stage in planned("gradual", names, blocks_per_stage=2)]
    assert sizes == [2, 4, 6, 7]

"""What strategies did not do, said when training has ended: once, truly, and not where they did it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, ClassVar

import pytest
from lightning.pytorch import Callback, Trainer

from bertlab.callbacks.auto_freeze import AutoFreeze
from bertlab.callbacks.cost_weighted_loss import CostWeightedLoss
from bertlab.callbacks.exponential_average import ExponentialAverage
from bertlab.callbacks.frozen_trunk_cache import FrozenTrunkCache
from bertlab.callbacks.latest_average import LatestAverage
from bertlab.callbacks.lr_restarts import LrRestarts
from bertlab.callbacks.r_drop import RDrop
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.stochastic_average import StochasticAverage
from bertlab.callbacks.strategy import OnPlateau, Run, Strategy
from bertlab.callbacks.unfreezing_plans import Stage
from bertlab.tracking import timeline as tracking
from tests.callbacks.tiny import Timeline, TinyTask, fit
from tests.doubles.stop_after import StopAfter

#: Of the three validations, after steps 6, 12 and 18: no plateau, one after step 12, one after the last step.
BETTER, SETTLES, LATE = [1.0, 0.9, 0.8], [1.0, 1.1, 0.9], [1.0, 0.9, 1.1]
PLATEAU = "a plateau of val/loss (patience 1)"
ENDED = "by step 18, where training ended: it waited for"

Event = tuple[int, str, str, dict[str, Any]]


class Waits(Strategy):
    """Has a second stage that begins on a plateau."""

    when = OnPlateau("val/loss", patience=2)
    touches: ClassVar[set[str]] = {"lr"}

    def apply(self, run: Run) -> None:
        run.scale_lr(run.all_blocks, 1 / (1 + run.stage))


class Stops(Callback):
    """Tells the trainer to stop, as `max_time` and EarlyStopping do."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step == self.step


def run(
    strategies: list[Strategy],
    root: Path,
    losses: list[float],
    *callbacks: Callback,
    said_by: str = "hindsight.py",
    **arguments: Any,
) -> tuple[list[str], list[Event]]:
    """What was warned of at the end of a training, or by all of bertlab, and what of it is on the timeline."""
    timeline = Timeline()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(strategies, root, task=TinyTask(losses), callbacks=(timeline, *callbacks), **arguments)
    said = [str(warning.message) for warning in caught if said_by in warning.filename]
    return said, [event for event in timeline.events if event[2] == "undone"]


def by_hand(**end: Any) -> StagedUnfreezing:
    return StagedUnfreezing(stages=[Stage(["layer.2-head"], **end), Stage(["all"])])


WAITED: dict[str, tuple[list[Strategy], list[float], list[str]]] = {
    "unfreezing": (
        [StagedUnfreezing(plateau="val/loss")],
        BETTER,
        [
            f"StagedUnfreezing did not get beyond stage 0 of 0 to 4 {ENDED} {PLATEAU}. Never trained: embeddings, "
            "layer.0, layer.1, layer.2. Lower `patience`"
        ],
    ),
    "unfreezing that came half way": (
        [StagedUnfreezing(plateau="val/loss")],
        SETTLES,
        [
            f"StagedUnfreezing did not get beyond stage 1 of 0 to 4 {ENDED} {PLATEAU}. Never trained: embeddings, "
            "layer.0, layer.1. "
        ],
    ),
    "unfreezing whose plateau came with the last validation": (
        [by_hand(until_plateau="val/loss")],
        LATE,
        [
            f"StagedUnfreezing did not get beyond stage 0 of 0 to 1 {ENDED} step 18. Never trained: embeddings, "
            "layer.0, layer.1. "
        ],
    ),
    "restarts": (
        [LrRestarts("plateau", plateau="val/loss", cycle_steps=5, minimum_factor=0.1)],
        BETTER,
        [
            f"LrRestarts never restarted {ENDED} {PLATEAU}. From step 5 on the rate was 0.1 times the schedule's. "
        ],
    ),
    "restarts of one long cycle": (
        [LrRestarts("plateau", plateau="val/loss", cycle_steps=30)],
        BETTER,
        [f"LrRestarts never restarted {ENDED} {PLATEAU}. All steps were of one cycle. "],
    ),
    "restarts at stages, and their stages": (
        [StagedUnfreezing(plan="top_k", top=4, plateau="val/loss"), LrRestarts("stage", cycle_steps=18)],
        BETTER,
        [
            f"StagedUnfreezing did not get beyond stage 0 of 0 to 1 {ENDED} {PLATEAU}. ",
            f"LrRestarts never restarted {ENDED} {PLATEAU}, with which the next stage begins. ",
        ],
    ),
    "an average at cycles": (
        [LrRestarts("plateau", plateau="val/loss", cycle_steps=6), StochasticAverage("cycle", start_step=7)],
        BETTER,
        [
            f"LrRestarts never restarted {ENDED} {PLATEAU}. ",
            f"StochasticAverage took no weights {ENDED} the end of a cycle from step 7 on, that is {PLATEAU}, with "
            "which the next cycle begins. What was validated, kept and is exported are the trained weights. ",
        ],
    ),
    "an average of one": (
        [LrRestarts("plateau", plateau="val/loss", cycle_steps=6), StochasticAverage("cycle", start_step=7)],
        SETTLES,
        [
            "StochasticAverage took weights but once, after step 12, by step 18, where training ended: it waited for "
            f"the next end of a cycle, that is {PLATEAU}, with which the next cycle begins. What was validated, kept "
        ],
    ),
    "a stage that had ended before it began": (
        [
            StagedUnfreezing(
                stages=[
                    Stage(["head"], until_plateau="val/loss"),
                    Stage(["layer.2-head"], until_fraction=0.3),
                    Stage(["layer.1-head"]),
                ]
            )
        ],
        SETTLES,
        [
            f"StagedUnfreezing trained nothing in stage 1 of 0 to 2 {ENDED} a step between the beginning and the end "
            "of each stage. Never trained: embeddings, layer.0. "
        ],
    ),
    "a cache": (
        [
            StagedUnfreezing(
                stages=[
                    Stage(["layer.2-head"], until_step=4),
                    Stage(["all"], until_plateau="val/loss"),
                    Stage(["layer.2-head"]),
                ]
            ),
            FrozenTrunkCache(),
        ],
        BETTER,
        [
            f"StagedUnfreezing did not get beyond stage 1 of 0 to 2 {ENDED} {PLATEAU}. Every block was trained in ",
            f"FrozenTrunkCache kept nothing of any row {ENDED} a stage with frozen lower blocks whose output it can "
            "keep. What was frozen (the last time because the stage lasts 0.67 epochs, less than minimum_epochs) was ",
        ],
    ),
    "one of one's own": (
        [Waits()],
        SETTLES,
        [
            f"Waits did not get beyond stage 0 {ENDED} a plateau of val/loss (patience 2). What it does in that stage "
            "held to the end. "
        ],
    ),
}


@pytest.mark.parametrize(("strategies", "losses", "messages"), WAITED.values(), ids=WAITED)
def test_what_never_came_is_said_once(
    strategies: list[Strategy], losses: list[float], messages: list[str], tmp_path: Path
) -> None:
    said, events = run(strategies, tmp_path, losses)
    assert [any(m.startswith(wanted) for m in said) for wanted in messages] == [True] * len(messages), said
    assert len(said) == len(events) == len(messages)
    for step, name, _, facts in events:
        assert step == 18
        assert not facts["stopped"]
        (message,) = (m for m in said if m.startswith(name))
        assert message.startswith(
            f"{name} {facts['outcome']} {ENDED} {facts['waited_for']}. {facts['instead']}. "
        )


DONE: dict[str, tuple[list[Strategy], list[float]]] = {
    "unfreezing": ([by_hand(until_plateau="val/loss")], SETTLES),
    "unfreezing by time": ([StagedUnfreezing()], BETTER),
    "restarts": ([LrRestarts("plateau", plateau="val/loss", cycle_steps=5)], SETTLES),
    "restarts by time": ([LrRestarts(cycle_epochs=1)], BETTER),
    "one cycle": ([LrRestarts(cycle_fraction=1.0)], BETTER),
    "an average at cycles": ([LrRestarts(cycle_epochs=1), StochasticAverage("cycle", start_step=7)], BETTER),
    "a cache": ([by_hand(until_step=9), FrozenTrunkCache()], BETTER),
    "one of one's own": ([Waits()], [1.0, 1.1, 1.2]),
}


@pytest.mark.parametrize(("strategies", "losses"), DONE.values(), ids=DONE)
def test_what_was_done_is_not_said(strategies: list[Strategy], losses: list[float], tmp_path: Path) -> None:
    # The last plateau of Waits comes after its two validations, at the end of the third epoch: one epoch more.
    assert run(strategies, tmp_path, losses, epochs=4 if isinstance(strategies[0], Waits) else 3) == ([], [])


@pytest.mark.parametrize("settled", [0, 1])
def test_freezing_by_gradients(settled: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertlab.callbacks.gradients_settle.settled_layers", lambda *_: settled)
    said, events = run([AutoFreeze(interval_fraction=0.25)], tmp_path, BETTER)
    assert len(said) == len(events) == 1 - settled
    assert all(
        message.startswith(
            f"AutoFreeze froze nothing {ENDED} gradients of the lowest layers that settle (percentile 50, intervals of "
            "4.5 steps). All layers were trained, at the cost of a whole step each time. Raise `percentile`"
        )
        for message in said
    )


STOPPED: dict[str, tuple[Strategy, str]] = {
    "unfreezing": (
        StagedUnfreezing(stage_steps=5),
        "StagedUnfreezing did not get beyond stage 0 of 0 to 4 by step 4, where training was stopped before its 18 "
        "steps were done: it waited for step 5. Never trained: embeddings, layer.0, layer.1, layer.2. Train to the "
        "end, or lower `patience`",
    ),
    "an average": (
        ExponentialAverage(start_step=9),
        "ExponentialAverage took no weights by step 4, where training was stopped before its 18 steps were done: it "
        "waited for step 9. ",
    ),
    "weights that come late": (
        CostWeightedLoss(start_step=9),
        "CostWeightedLoss never acted by step 4, where training was stopped before its 18 steps were done: it waited "
        "for step 9. In every step it weighs all classes alike. Train to the end, or let it begin earlier.",
    ),
}


@pytest.mark.parametrize(("strategy", "message"), STOPPED.values(), ids=STOPPED)
def test_a_training_that_was_stopped(strategy: Strategy, message: str, tmp_path: Path) -> None:
    """By max_time, or EarlyStopping: said is that it was stopped, not that what was configured could not be."""
    (said,), ((step, _, _, facts),) = run([strategy], tmp_path, BETTER, Stops(4))
    assert said.startswith(message)
    assert (step, facts["stopped"]) == (4, True)


def test_a_training_that_was_stopped_after_strategies_acted(tmp_path: Path) -> None:
    strategies = [LrRestarts(cycle_steps=5), CostWeightedLoss(start_step=2), ExponentialAverage(start_step=3)]
    assert run(strategies, tmp_path, BETTER, Stops(4)) == ([], [])


def test_nothing_is_said_of_a_training_that_was_broken_off(tmp_path: Path) -> None:
    timeline = Timeline()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*where training")
        with pytest.raises(SystemExit):  # Lightning's answer to Ctrl-C
            fit([StagedUnfreezing(plateau="val/loss")], tmp_path, callbacks=(timeline, StopAfter(4)))
    assert "undone" not in {what for _, _, what, _ in timeline.events}


FORETOLD: dict[str, tuple[Strategy, str]] = {
    "no effect": (RDrop(alpha=0.0), "RDrop would do nothing in this training: alpha is 0"),
    "stages beyond the end": (
        StagedUnfreezing(stage_steps=7),
        "StagedUnfreezing: 2 of its 5 stages would begin at",
    ),
    "stages without a step": (
        StagedUnfreezing(
            stages=[
                Stage(["head"], until_step=2),
                Stage(["layer.2-head"], until_fraction=0.12),
                Stage(["all"]),
            ]
        ),
        "StagedUnfreezing: stage 1 of 0 to 2 would have no step and train nothing",
    ),
    "a cycle longer than training": (
        LrRestarts(cycle_steps=50),
        "LrRestarts: a cycle has 50 steps and training 18, so that it never restarts",
    ),
    "a rest that joins the one cycle": (
        LrRestarts(cycle_steps=13),
        "LrRestarts: a cycle has 13 steps and training 18, so that it never restarts",
    ),
    "an average of one": (
        LatestAverage(at="steps", every_steps=10),
        "LatestAverage: weights would be taken but once, after step 10 of 18",
    ),
    "no validation": (
        StagedUnfreezing(plateau="val/loss"),
        "StagedUnfreezing waits for a plateau of a validation",
    ),
}


@pytest.mark.parametrize(("strategy", "message"), FORETOLD.values(), ids=FORETOLD)
def test_what_was_said_before_training_is_said_once(strategy: Strategy, message: str, tmp_path: Path) -> None:
    """It is on the timeline all the same."""
    limited = {"limit_val_batches": 0} if "validation" in message else {}
    said, events = run([strategy], tmp_path, BETTER, said_by="bertlab", **limited)
    assert len(said) == 1
    assert said[0].startswith(message)
    ((step, name, _, facts),) = events
    assert (step, name, facts["stopped"]) == (18, type(strategy).__name__, False)
    assert facts.get("foretold", message).startswith(message)


def test_it_is_in_the_file_and_is_said_again_by_another_fit(tmp_path: Path) -> None:
    strategy, timeline = StagedUnfreezing(plateau="val/loss"), tracking.Timeline(tmp_path / "timeline.jsonl")
    with pytest.warns(UserWarning, match="StagedUnfreezing did not get beyond stage 0"):
        task, trainer = fit([strategy], tmp_path, task=TinyTask(BETTER), callbacks=(timeline,), epochs=2)
    trainer.fit_loop.max_epochs = 3
    with pytest.warns(UserWarning, match="StagedUnfreezing did not get beyond stage 0 of 0 to 4 by step 18"):
        trainer.fit(task, datamodule=trainer.datamodule)
    lines = [json.loads(line) for line in (tmp_path / "timeline.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["what"] == "undone"] == [12, 18]
    assert lines[-1]["facts"]["waited_for"] == PLATEAU

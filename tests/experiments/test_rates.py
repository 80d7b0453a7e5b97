"""Step times and rates by hand, from what clocks write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.clocks import StepTimes
from experiments.rates import Throughput, read_clock, step_times, throughput, training_seconds
from experiments.turns import STEPS

COLD = {"starts": [0.0, 9.0, 18.0], "ends": [8.0, 17.0, 26.0]}
WARM = {"starts": [40.0, 41.0, 43.0], "ends": [40.9, 42.0, 44.0]}
CLOCK = {"in_turn": False, "rows_per_epoch": 30, "tokens_per_epoch": 300, "epochs": [COLD, WARM]}


def test_rates_are_of_the_epochs_after_the_warm_up() -> None:
    # 30 rows and 300 tokens in the four seconds from 40 to 44; steps of one and of two seconds.
    assert throughput(CLOCK, 1) == Throughput(7.5, 75.0, 1.5)
    assert step_times(CLOCK, 0) == [9.0, 9.0, 1.0, 2.0]
    with pytest.raises(ValueError, match="2 of them warm-up"):
        throughput(CLOCK, 2)


def test_what_others_do_in_their_turns_does_not_count() -> None:
    # A turn of steps of a second each, a hundred seconds in which others train, and two steps more.
    starts = [float(step) for step in range(STEPS)] + [STEPS + 100.0, STEPS + 101.0]
    ends = [start + 0.75 for start in starts]
    assert training_seconds(starts, ends, in_turn=True) == (STEPS - 0.25) + 1.75
    assert training_seconds(starts, ends, in_turn=True, first=STEPS - 1) == 0.75 + 1.75
    assert training_seconds(starts, ends, in_turn=False) == STEPS + 101.75
    clock = CLOCK | {"in_turn": True, "epochs": [{"starts": starts, "ends": ends}]}
    assert step_times(clock, 0) == [1.0] * STEPS


def test_a_clock_writes_what_is_read(tmp_path: Path) -> None:
    times, path = StepTimes(), tmp_path / "folder" / "clock.json"
    for _ in range(2):
        times.begin_epoch()
        for _ in range(3):
            times.start()
            times.end()
    times.write(path, rows_per_epoch=30, tokens_per_epoch=300)
    found = read_clock(path)
    assert {key: found[key] for key in ("in_turn", "rows_per_epoch", "tokens_per_epoch")} == {
        "in_turn": False,
        "rows_per_epoch": 30,
        "tokens_per_epoch": 300,
    }
    assert found["epochs"] == json.loads(json.dumps(times.epochs))
    assert len(step_times(found, 1)) == 2

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertlab.callbacks.gradients_settle import GradientsSettle
from bertlab.callbacks.triggers import (
    AtEpoch,
    AtFraction,
    AtStep,
    EachEpoch,
    EachStage,
    Horizon,
    InTurn,
    OnPlateau,
    Trigger,
)

HORIZON = Horizon(total_steps=90, steps_per_epoch=30)


@pytest.mark.parametrize(
    ("trigger", "starts"),
    [
        (AtStep(), []),
        (AtStep(20, 5), [5, 20]),
        (AtEpoch(0.5, 2), [15, 60]),
        (AtFraction(0.1, 1 / 3), [9, 30]),
        (EachEpoch(), [30, 60]),
        (EachEpoch(0.5), [15, 30, 45, 60, 75]),
        (EachEpoch(4), []),
        (EachStage(), [30, 60]),
        (InTurn([AtStep(7), AtFraction(0.5)]), [7, 45]),
    ],
)
def test_starts(trigger: Trigger, starts: list[int]) -> None:
    assert list(trigger.starts(HORIZON)) == starts
    assert [trigger.stage_at(start, HORIZON) for start in starts] == list(range(1, len(starts) + 1))
    assert [trigger.stage_at(start - 1, HORIZON) for start in starts] == list(range(len(starts)))


def test_span() -> None:
    trigger = AtStep(10, 40)
    assert [trigger.span(stage, HORIZON) for stage in range(3)] == [(0, 10), (10, 40), (40, 90)]


@given(st.lists(st.integers(1, 89), unique=True), st.integers(0, 89))
def test_every_step_lies_in_the_span_of_its_stage(starts: list[int], step: int) -> None:
    trigger = AtStep(*starts)
    first, end = trigger.span(trigger.stage_at(step, HORIZON), HORIZON)
    assert end is not None
    assert first <= step < end


def test_plateau_counts_validations_without_betterment() -> None:
    trigger = OnPlateau("val/loss", patience=2)
    for step, loss in enumerate([1.0, 0.9, 0.95, 0.9, 0.8, 0.8, 0.8], start=1):
        trigger.observe({"val/loss": loss}, step, HORIZON)
    # 0.95 and 0.9 are no betterment of 0.9: plateau after step 4; then 0.8 is a new best, 0.8 and 0.8 a plateau.
    assert list(trigger.starts(HORIZON)) == [4, 7]
    assert trigger.span(2, HORIZON) == (7, None)
    assert not trigger.complete(HORIZON)


def test_what_the_next_stage_waits_for() -> None:
    plateau = OnPlateau("val/loss")
    follower = EachStage()
    follower.leader = InTurn([AtStep(2), plateau, AtStep(5)])
    assert AtStep(3).waits_for(HORIZON) is None
    assert GradientsSettle(0.1, 50.0).waits_for(HORIZON) == "gradients"
    assert follower.waits_for(HORIZON) == "validation"
    for step in (3, 4):
        follower.leader.observe({"val/loss": 1.0}, step, HORIZON)
    assert list(follower.starts(HORIZON)) == [2, 4, 5]
    assert follower.waits_for(HORIZON) is None


def test_a_validation_is_of_the_stage_whose_steps_were_taken() -> None:
    """The clock ends the first stage with step 30, after which it is validated: the second one begins at 1.5."""
    plateau = OnPlateau("val/loss", patience=1)
    trigger = InTurn([AtEpoch(1), plateau])
    for step, loss in [(30, 1.0), (60, 1.5), (70, 1.4)]:
        trigger.observe({"val/loss": loss}, step, HORIZON)
    assert list(trigger.starts(HORIZON)) == [30]
    trigger.observe({"val/loss": 1.45}, 80, HORIZON)
    assert list(trigger.starts(HORIZON)) == [30, 80]


def test_plateau_of_a_score_and_min_delta() -> None:
    trigger = OnPlateau("val/f1", patience=1, mode="max", min_delta=0.05)
    for step, value in enumerate([0.5, 0.6, 0.63], start=1):
        trigger.observe({"val/f1": value}, step, HORIZON)
    assert list(trigger.starts(HORIZON)) == [3]


def test_plateau_state_round_trips_in_the_middle_of_waiting() -> None:
    seen = [1.0, 1.0, 0.5, 0.5, 0.5, 0.4, 0.6, 0.7]
    whole = OnPlateau("m", patience=2)
    for step, value in enumerate(seen):
        whole.observe({"m": value}, step, HORIZON)
    for cut in range(len(seen)):
        first, second = OnPlateau("m", patience=2), OnPlateau("m", patience=2)
        for step, value in enumerate(seen[:cut]):
            first.observe({"m": value}, step, HORIZON)
        second.load_state_dict(first.state_dict())
        for step, value in enumerate(seen[cut:], start=cut):
            second.observe({"m": value}, step, HORIZON)
        assert second.state_dict() == whole.state_dict()


def test_in_turn_waits_for_the_plateau_before_it_goes_by_the_clock() -> None:
    trigger = InTurn([AtStep(5), OnPlateau("m"), AtStep(20)])
    assert list(trigger.starts(HORIZON)) == [5]
    trigger.observe({"m": 1.0}, 3, HORIZON)  # stage 0 is under way: not its business
    trigger.observe({"m": 1.0}, 6, HORIZON)
    trigger.observe({"m": 1.0}, 30, HORIZON)
    # The plateau came at 30, when the clock of the next stage had run out already: it ends at once.
    assert list(trigger.starts(HORIZON)) == [5, 30, 30]
    assert trigger.stage_at(30, HORIZON) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AtStep(-1), "steps of 0 or more, got -1"),
        (lambda: AtFraction(1.2), r"fractions of training in \[0, 1\], got 1.2"),
        (lambda: EachEpoch(0), "above 0, got 0"),
        (lambda: OnPlateau("m", patience=0), "patience of 1"),
        (lambda: OnPlateau("m", mode="up"), "'min' or 'max', got 'up'"),
    ],
)
def test_arguments_out_of_range(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_a_metric_that_is_not_there_or_not_a_number() -> None:
    with pytest.raises(ValueError, match="no metric 'val/x' was logged by validation; there are val/loss"):
        OnPlateau("val/x").observe({"val/loss": 1.0}, 1, HORIZON)
    with pytest.raises(ValueError, match="'val/loss' is nan"):
        OnPlateau("val/loss").observe({"val/loss": float("nan")}, 1, HORIZON)

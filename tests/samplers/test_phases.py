from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.samplers.phases import Phase, StepSchedule, check_phases
from bertlab.samplers.step_parts import StepPartSampler

THREE = [Phase(128, 0.5), Phase(128, 0.3, 20), Phase(512, 0.2)]


@settings(max_examples=60, deadline=None)
@given(total=st.integers(1, 90), warmup=st.integers(0, 90), start=st.integers(1, 12))
def test_steps_follow_one_another(total: int, warmup: int, start: int) -> None:
    schedule = StepSchedule(THREE, [10, 20, 4], total, min(warmup, total), start)
    number, within = 0, {0: 0, 1: 0}
    for at in range(total):
        step = schedule.step(at)
        assert step.number == number == schedule.samples_before(at)
        assert step.first == within[step.stream]
        number, within[step.stream] = number + step.size, within[step.stream] + step.size
        if at >= warmup:
            assert step.size == [10, 20, 4][(at >= round(0.5 * total)) + (at >= round(0.8 * total))]
    assert schedule.samples_before(total) == number
    with pytest.raises(IndexError, match=f"step {total} of a training of {total} steps"):
        schedule.step(total)


def test_the_batch_grows_linearly() -> None:
    schedule = StepSchedule([Phase()], [50], 20, warmup_steps=10, warmup_size=10)
    assert [schedule.step(n).size for n in range(12)] == [10, 14, 18, 22, 26, 30, 34, 38, 42, 46, 50, 50]
    assert schedule.smallest == 10


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([], "phases is empty"),
        ([Phase(128, 0.5)], "the fractions add up to 0.5, and must to 1"),
        ([Phase(4)], "length 4 is less than 8 tokens"),
        ([Phase(128, 1.5)], "fraction 1.5 is not in"),
        ([Phase(128, 1.0, 0)], "batch_size 0 is not a positive number"),
    ],
)
def test_phases_that_are_none(phases: list[Phase], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_phases(phases)


def test_ranks_and_micro_batches_share_the_same_steps() -> None:
    schedule = StepSchedule(THREE, [10, 20, 4], 10)
    whole = StepPartSampler(10, 1, 0, 4)
    whole.resume(schedule, 3, 10)
    ranks = [StepPartSampler(10, 2, rank, 2) for rank in range(2)]
    for rank in ranks:
        rank.resume(schedule, 3, 10)
    assert len(whole) == 40
    assert list(whole) == [part for pair in zip(*ranks, strict=True) for part in pair]
    assert [(part.step.stream, part.step.first) for part in whole][::4] == [
        (0, 30), (0, 40), (0, 50), (0, 70), (0, 90), (1, 0), (1, 4),
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"step of 4 sequences cannot be split into 6 micro-batches"):
        StepPartSampler(10, 3, 0, 2).resume(schedule, 0, 10)
    with pytest.raises(RuntimeError, match="resume"):
        next(iter(StepPartSampler(10)))

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.samplers.class_balanced import ClassBalanced
from bertlab.samplers.micro_batch import balanced_parts
from bertlab.samplers.steps import steps_for_tokens, stratified_steps
from bertlab.samplers.token_budget import TokenBudgetSampler

LENGTHS = st.lists(st.integers(1, 60), min_size=8, max_size=80).map(
    lambda values: np.array(values, dtype=np.int64)
)


def rows_of(sampler: TokenBudgetSampler) -> list[int]:
    return [row for part in sampler for row in part.rows.tolist()]


@st.composite
def samplers(draw: st.DrawFn) -> dict[str, object]:
    lengths = draw(LENGTHS)
    limits = draw(
        st.sampled_from(
            [{"batch_size": 8}, {"batch_size": 13}, {"max_tokens": 300}, {"batch_size": 8, "max_tokens": 480}]
        )
    )
    return {"lengths": lengths, "seed": draw(st.integers(0, 99)), **limits}


@given(options=samplers(), epoch=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_every_row_once_and_no_step_above_its_limits(options: dict[str, object], epoch: int) -> None:
    sampler = TokenBudgetSampler(**options)  # type: ignore[arg-type]
    lengths = sampler.lengths
    steps = sampler.steps(epoch)
    assert len(steps) == sampler.steps_per_epoch
    assert sorted(np.concatenate(steps).tolist()) == list(range(len(lengths)))
    sizes = [len(step) for step in steps]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= options.get("batch_size", len(lengths))  # type: ignore[operator]
    tokens = [int(lengths[step].sum()) for step in steps]
    if "max_tokens" in options:
        assert max(tokens) <= options["max_tokens"]  # type: ignore[operator]
        if len(lengths) % len(steps) == 0:
            assert max(tokens) - min(tokens) <= lengths.max() - lengths.min()


@given(options=samplers(), ranks=st.sampled_from([1, 2, 4]), epoch=st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_ranks_and_micro_batches_share_the_same_steps(
    options: dict[str, object], ranks: int, epoch: int
) -> None:
    one = TokenBudgetSampler(**options)  # type: ignore[arg-type]
    if len(one.lengths) // one.steps_per_epoch < 4:
        return
    one.set_epoch(epoch)
    whole = [set(part.rows.tolist()) for part in one]
    shares = []
    for rank in range(ranks):
        sampler = TokenBudgetSampler(**options, num_replicas=ranks, rank=rank, micro_batches=4 // ranks)  # type: ignore[arg-type]
        sampler.set_epoch(epoch)
        shares.append(list(sampler))
        assert len(shares[-1]) == len(sampler)
    for step, expected in enumerate(whole):
        parts = [part for share in shares for part in share[step * 4 // ranks : (step + 1) * 4 // ranks]]
        assert len(parts) == 4
        assert all(part.micro_batches == 4 and set(part.step_rows.tolist()) == expected for part in parts)
        assert all(len(part.rows) for part in parts)
        rows = [row for part in parts for row in part.rows.tolist()]
        assert len(rows) == len(expected)
        assert set(rows) == expected


@given(options=samplers(), epoch=st.integers(0, 2), data=st.data())
@settings(max_examples=40, deadline=None)
def test_resuming_gives_the_rest_of_the_epoch(
    options: dict[str, object], epoch: int, data: st.DataObject
) -> None:
    sampler = TokenBudgetSampler(**options)  # type: ignore[arg-type]
    sampler.set_epoch(epoch)
    whole = rows_of(sampler)
    steps = data.draw(st.integers(0, sampler.steps_per_epoch))
    done = sum(len(step) for step in sampler.steps(epoch)[:steps])
    other = TokenBudgetSampler(**options)  # type: ignore[arg-type]
    other.resume(epoch, steps)
    assert rows_of(other) == whole[done:]
    other.set_epoch(epoch + 1)
    assert len(rows_of(other)) == len(sampler.lengths), "the epoch after it is whole"


@given(options=samplers(), ranks=st.sampled_from([1, 2]), data=st.data())
@settings(max_examples=40, deadline=None)
def test_the_first_step_is_known_without_iterating(
    options: dict[str, object], ranks: int, data: st.DataObject
) -> None:
    sampler = TokenBudgetSampler(**options, num_replicas=ranks, rank=ranks - 1, micro_batches=2)  # type: ignore[arg-type]
    for epoch in (1, 0, 1):
        step = data.draw(st.integers(0, sampler.steps_per_epoch - 1))
        sampler.resume(epoch, step)
        known = sampler.first_step()
        for one, other in zip(known, list(sampler)[:2], strict=True):
            assert one.rows.tolist() == other.rows.tolist()
            assert one.step_rows is not None
            assert other.step_rows is not None
            assert one.step_rows.tolist() == other.step_rows.tolist()


def test_epochs_and_seeds_differ_and_shuffle_false_does_not() -> None:
    lengths = np.arange(1, 41)
    first = TokenBudgetSampler(lengths, 8)
    assert [s.tolist() for s in first.steps(0)] == [
        s.tolist() for s in TokenBudgetSampler(lengths, 8).steps(0)
    ]
    assert [s.tolist() for s in first.steps(0)] != [s.tolist() for s in first.steps(1)]
    assert [s.tolist() for s in first.steps(0)] != [
        s.tolist() for s in TokenBudgetSampler(lengths, 8, seed=1).steps(0)
    ]
    still = TokenBudgetSampler(lengths, 8, shuffle=False)
    assert [s.tolist() for s in still.steps(0)] == [s.tolist() for s in still.steps(5)]


@pytest.mark.parametrize("limits", [{"batch_size": 20}, {"max_tokens": 420}])
def test_rows_meet_ever_new_rows(limits: dict[str, int]) -> None:
    """With all lengths different, a deterministic packing would put the same rows together in every epoch."""
    sampler = TokenBudgetSampler(np.arange(1, 101), **limits)
    companions = [
        {row for step in sampler.steps(epoch) if 50 in step for row in step.tolist()} - {50}
        for epoch in range(20)
    ]
    assert len(set.union(*companions)) > 60


def test_step_count_is_the_smallest_that_is_safe() -> None:
    lengths = np.random.default_rng(0).integers(5, 128, 3000)
    steps = steps_for_tokens(lengths, 4096)
    assert steps <= 1.05 * lengths.sum() / 4096
    generator = np.random.default_rng(1)
    for _ in range(5):
        made = stratified_steps(np.arange(3000), lengths, steps, generator)
        assert max(int(lengths[step].sum()) for step in made) <= 4096
    descending = np.sort(lengths)[::-1]
    assert descending[:: steps - 1].sum() > 4096


@given(lengths=LENGTHS, parts=st.integers(1, 8))
@settings(deadline=None)
def test_parts_are_balanced(lengths: np.ndarray, parts: int) -> None:
    shares = balanced_parts(lengths, parts)
    assert sorted(np.concatenate(shares).tolist()) == list(range(len(lengths)))
    loads = [int(lengths[share].sum()) for share in shares]
    assert loads == sorted(loads, reverse=True)
    assert max(loads) - min(loads) <= lengths.max()
    assert all((np.diff(lengths[share]) <= 0).all() for share in shares)


def test_bad_limits() -> None:
    lengths = np.array([3, 9, 4, 4])
    with pytest.raises(ValueError, match="batch_size, max_tokens: both are null"):
        TokenBudgetSampler(lengths)
    with pytest.raises(ValueError, match="batch_size: 0 is not a positive number"):
        TokenBudgetSampler(lengths, 0)
    with pytest.raises(
        ValueError, match=r"max_tokens: 8 is less than the longest text: row 1 .* has 9 tokens"
    ):
        TokenBudgetSampler(lengths, max_tokens=8)
    with pytest.raises(
        ValueError, match=r"step of 2 rows cannot be split into 4 micro-batches \(2 ranks × acc"
    ):
        TokenBudgetSampler(lengths, 2, num_replicas=2, micro_batches=2)
    with pytest.raises(ValueError, match="no rows"):
        TokenBudgetSampler(np.zeros(0, dtype=np.int64), 2)


def test_with_resampling_every_epoch_keeps_the_limits() -> None:
    generator = np.random.default_rng(0)
    labels = np.array([0] * 180 + [1] * 20)
    lengths = np.where(labels == 1, generator.integers(60, 90, 200), generator.integers(5, 30, 200))
    sampler = TokenBudgetSampler(lengths, max_tokens=600, draw=ClassBalanced(labels, 1.0, seed=2))
    for epoch in range(4):
        steps = sampler.steps(epoch)
        assert max(int(lengths[step].sum()) for step in steps) <= 600
        assert len(steps) == sampler.steps_per_epoch
        assert np.bincount(labels[np.concatenate(steps)]).tolist() == [100, 100]

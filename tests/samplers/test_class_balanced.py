from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.samplers.class_balanced import ClassBalanced, class_rows

COUNTS = st.lists(st.integers(0, 300), min_size=2, max_size=8).filter(lambda counts: sum(counts) > 0)


@given(counts=COUNTS, power=st.floats(0, 1))
@settings(deadline=None)
def test_rows_of_classes(counts: list[int], power: float) -> None:
    rows = class_rows(np.array(counts), power)
    assert rows.sum() == sum(counts)
    assert ((rows > 0) == (np.array(counts) > 0)).all()
    if power == 0.0:
        assert rows.tolist() == counts


def test_power_is_the_exponent_of_the_share() -> None:
    assert class_rows(np.array([900, 100]), 0.5).tolist() == [750, 250]  # 30 : 10
    assert class_rows(np.array([2840, 41]), 1.0).tolist() == [1441, 1440]


@given(counts=COUNTS, power=st.floats(0, 1), epoch=st.integers(0, 5))
@settings(deadline=None, max_examples=50)
def test_draws(counts: list[int], power: float, epoch: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    balanced = ClassBalanced(labels, power, seed=1)
    rows = balanced.rows(epoch)
    assert np.bincount(labels[rows], minlength=len(counts)).tolist()[: len(balanced.targets)] == [
        *balanced.targets.tolist()
    ]
    times = np.bincount(rows, minlength=len(labels))
    for label in range(len(counts)):
        of_class = times[labels == label]
        assert len(of_class) == 0 or of_class.max() - of_class.min() <= 1, "evenly within a class"
    assert rows.tolist() == ClassBalanced(labels, power, seed=1).rows(epoch).tolist()


def test_epochs_differ_and_the_longest_epoch_is_a_bound() -> None:
    generator = np.random.default_rng(0)
    labels = generator.permutation(np.repeat([0, 1, 2], [100, 30, 7]))
    lengths = generator.integers(1, 100, len(labels))
    balanced = ClassBalanced(labels, 0.7)
    assert balanced.rows(0).tolist() != balanced.rows(1).tolist()
    bound = balanced.longest(lengths)
    for epoch in range(10):
        assert (np.sort(lengths[balanced.rows(epoch)])[::-1] <= bound).all()


@pytest.mark.parametrize("power", [-0.1, 1.5])
def test_power_out_of_range(power: float) -> None:
    with pytest.raises(ValueError, match=r"resampling_power: .* is not in \[0, 1\]"):
        ClassBalanced(np.array([0, 1]), power)

"""The mean over a step does not depend on how the step is split."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertlab.losses.step_mean import step_mean


@given(st.lists(st.lists(st.floats(0, 20, width=32), max_size=6), min_size=1, max_size=5))
def test_mean_of_the_micro_batches_is_the_mean_of_the_step(parts):
    everything = [loss for part in parts for loss in part]
    means = [step_mean(torch.tensor(part).sum(), len(everything), len(parts)) for part in parts]
    expected = sum(everything) / len(everything) if everything else 0.0
    assert float(sum(means)) / len(parts) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_googles_epsilon():
    assert float(step_mean(torch.tensor(6.0), 3, 1, 1e-5)) == pytest.approx(6 / 3.00001, rel=1e-7)
    assert float(step_mean(torch.tensor(0.0), 0, 1, 1e-5)) == 0.0


def test_numbers_that_are_no_counts():
    with pytest.raises(ValueError, match="got -1 losses in 2 micro-batches"):
        step_mean(torch.tensor(1.0), -1, 2)
    with pytest.raises(ValueError, match="got 1 losses in 0 micro-batches"):
        step_mean(torch.tensor(1.0), 1, 0)

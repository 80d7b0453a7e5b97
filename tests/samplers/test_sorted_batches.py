from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.samplers.sorted_batches import SortedBatchSampler, sorted_batches

LENGTHS = st.lists(st.integers(1, 64), min_size=4, max_size=90).map(
    lambda values: np.array(values, dtype=np.int64)
)


@given(lengths=LENGTHS, max_tokens=st.integers(64, 400), ranks=st.integers(1, 4))
@settings(deadline=None)
def test_every_row_once_over_ranks_of_equal_batch_counts(
    lengths: np.ndarray, max_tokens: int, ranks: int
) -> None:
    shares = [SortedBatchSampler(lengths, max_tokens, ranks, rank) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    batches = [part for share in shares for part in share]
    assert sorted(row for part in batches for row in part.rows.tolist()) == list(range(len(lengths)))
    assert all((np.diff(lengths[part.rows]) <= 0).all() for part in batches)
    assert all(part.step_rows is None for part in batches)
    fewest = len(sorted_batches(lengths, max_tokens))
    if len(lengths) // ranks * ranks >= -(-fewest // ranks) * ranks:
        assert all(lengths[part.rows].sum() <= max_tokens for part in batches)


def test_batches_are_full() -> None:
    lengths = np.random.default_rng(0).integers(5, 60, 2000)
    assert len(sorted_batches(lengths, 2048)) <= 1.05 * lengths.sum() / 2048


def test_too_few_rows_to_split_joins_the_shortest() -> None:
    batches = sorted_batches(np.array([9, 8, 7]), 10, multiple=2)
    assert [batch.tolist() for batch in batches] == [[0], [1, 2]]


def test_errors() -> None:
    with pytest.raises(ValueError, match="split of 1 rows cannot be evaluated on 2 ranks"):
        SortedBatchSampler(np.array([3]), 10, num_replicas=2)
    with pytest.raises(
        ValueError, match=r"evaluation_max_tokens: 10 is less than the longest text \(11 tokens\)"
    ):
        SortedBatchSampler(np.array([3, 11]), 10)

"""The rows of an evaluation: order, doubles, none."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.tasks.evaluation import Evaluation


@settings(max_examples=50, deadline=None)
@given(
    order=st.permutations(range(12)),
    cuts=st.lists(st.integers(1, 11), max_size=4),
    doubles=st.integers(0, 12),
)
def test_order_batches_and_doubles_change_nothing(order, cuts, doubles):
    outputs, losses = torch.rand(12, 3), torch.rand(12)
    labels = torch.arange(12) % 3
    rows = torch.tensor([*order, *order[:doubles]])
    evaluation = Evaluation()
    for part in torch.tensor_split(rows, sorted(cuts)):
        evaluation.add(part, outputs[part], labels[part], losses[part])
    scores = evaluation.gather(distributed=False)
    assert torch.equal(scores.outputs, outputs)
    assert torch.equal(scores.labels, labels)
    assert torch.equal(scores.losses, losses)


def test_no_row_is_an_error():
    evaluation = Evaluation()
    evaluation.add(torch.arange(2), torch.ones(2, 1), torch.ones(2), torch.ones(2))
    evaluation.clear()
    with pytest.raises(ValueError, match="at least one row on each rank, got none"):
        evaluation.gather(distributed=False)

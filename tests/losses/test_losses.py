"""Losses against torch's, torchvision's formula for focal loss, and hand values."""

import math

import pytest
import torch
from torch.nn import functional

from bertlab.losses.binary_cross_entropy import BinaryCrossEntropy
from bertlab.losses.cross_entropy import CrossEntropy
from bertlab.losses.focal import Focal
from bertlab.losses.mean_squared_error import MeanSquaredError


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


LABELS = torch.tensor([0, 1, 2, 3, 3, 0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs_without_the_reduction(logits, smoothing):
    losses = CrossEntropy(smoothing)(logits, LABELS)
    assert losses.shape == (6,)
    reference = functional.cross_entropy(logits, LABELS, label_smoothing=smoothing)
    torch.testing.assert_close(losses.mean(), reference)


def test_cross_entropy_at_a_hand_value():
    # softmax of (ln 3, 0) is (3/4, 1/4)
    losses = CrossEntropy()(torch.tensor([[math.log(3), 0.0]] * 2), torch.tensor([0, 1]))
    assert losses.tolist() == pytest.approx([math.log(4 / 3), math.log(4)])


def test_binary_cross_entropy_is_torchs_without_the_reduction(logits):
    labels = functional.one_hot(LABELS, 4).float()
    weights = torch.tensor([1.0, 2.0, 0.5, 0.0])
    losses = BinaryCrossEntropy()(logits, labels, weights)
    assert losses.shape == (6,)
    reference = torch.nn.BCEWithLogitsLoss(pos_weight=weights)(logits, labels)
    torch.testing.assert_close(losses.mean(), reference)
    torch.testing.assert_close(
        BinaryCrossEntropy()(logits, labels).mean(), torch.nn.BCEWithLogitsLoss()(logits, labels)
    )


def test_mean_squared_error_at_hand_values():
    assert MeanSquaredError()(torch.tensor([[1.0], [4.0]]), torch.tensor([3.0, 4.5])).tolist() == [4.0, 0.25]


def test_focal_at_hand_values():
    # p = 3/4 and 1/4 with gamma 2: (1/16)·ln(4/3) and (9/16)·ln 4
    logits = torch.tensor([[math.log(3), 0.0]] * 2)
    losses = Focal(gamma=2.0)(logits, torch.tensor([0, 1]))
    assert losses.tolist() == pytest.approx([math.log(4 / 3) / 16, 9 * math.log(4) / 16])


def test_focal_of_multi_label_is_the_formula_of_the_paper(logits):
    labels = functional.one_hot(LABELS, 4).float()
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0])
    p = logits.sigmoid()
    p_t = torch.where(labels == 1, p, 1 - p)
    elements = -((1 - p_t) ** 2) * p_t.log()
    torch.testing.assert_close(Focal()(logits, labels), elements.mean(dim=1))
    weighted = torch.where(labels == 1, weights, torch.ones(())) * elements
    torch.testing.assert_close(Focal()(logits, labels, weights), weighted.mean(dim=1))


def test_focal_with_gamma_0_is_cross_entropy(logits):
    torch.testing.assert_close(Focal(0.0)(logits, LABELS), CrossEntropy()(logits, LABELS))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_has_a_finite_gradient_where_the_model_is_sure(gamma):
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    Focal(gamma)(logits, torch.tensor([0, 0])).sum().backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CrossEntropy(1.0), r"CrossEntropy.label_smoothing takes a number in \[0, 1\), got 1.0"),
        (lambda: Focal(-1), "Focal.gamma takes a number of 0 or more, got -1"),
        (lambda: Focal(math.nan), "Focal.gamma takes a number of 0 or more, got nan"),
    ],
)
def test_arguments_out_of_range_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()

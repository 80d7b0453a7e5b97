"""Class weights against scikit-learn, the papers' formulas, and bad input."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from bertlab.losses.class_weights import (
    annealed,
    balanced,
    effective_number,
    explicit,
    from_cost_matrix,
    inverse_sqrt,
)

COUNTS = st.lists(st.integers(1, 10**6), min_size=1, max_size=60)


@given(counts=st.lists(st.integers(1, 400), min_size=1, max_size=20))
def test_balanced_is_scikit_learns(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    reference = compute_class_weight("balanced", classes=np.arange(len(counts)), y=labels)
    assert balanced(torch.tensor(counts)).tolist() == pytest.approx(reference.tolist(), rel=1e-12)


@given(counts=COUNTS)
def test_the_mean_over_examples_is_1(counts):
    counts = torch.tensor(counts)
    for weights in (balanced(counts), inverse_sqrt(counts)):
        assert float((weights * counts).sum() / counts.sum()) == pytest.approx(1)


@given(counts=COUNTS)
def test_inverse_sqrt_goes_with_one_over_the_root(counts):
    weights = inverse_sqrt(torch.tensor(counts))
    assert (weights * torch.tensor(counts).double().sqrt()).tolist() == pytest.approx(
        [float(weights[0]) * math.sqrt(counts[0])] * len(counts)
    )


@pytest.mark.parametrize("beta", [0.9, 0.99, 0.999, 0.9999])
def test_effective_number_is_equation_2_of_the_paper(beta):
    counts = np.array([5000, 500, 41])
    paper = (1 - beta) / (1 - np.power(beta, counts))  # as in the authors' code
    paper = paper / paper.sum() * len(counts)
    assert effective_number(torch.tensor(counts), beta).tolist() == pytest.approx(paper.tolist(), rel=1e-9)


@given(counts=COUNTS, beta=st.floats(0, 1, exclude_max=True))
def test_effective_number_sums_to_the_number_of_classes_and_favours_the_rare(counts, beta):
    weights = effective_number(torch.tensor(counts), beta)
    assert float(weights.sum()) == pytest.approx(len(counts))
    order = np.argsort(counts)
    assert (np.diff(weights.numpy()[order]) <= 1e-9).all()


def test_effective_number_reaches_no_weights_and_balanced():
    counts = torch.tensor([90, 10])
    assert effective_number(counts, 0.0).tolist() == [1, 1]
    near = effective_number(counts, 1 - 1e-13)
    assert float(near[1] / near[0]) == pytest.approx(9, rel=1e-6)


def test_a_cost_matrix_weighs_by_rows():
    # Ting 2002: V = (1, 5), n = (90, 10): w = V·100 / (90·1 + 10·5)
    weights = from_cost_matrix([[0, 1], [5, 0]], torch.tensor([90, 10]))
    assert weights.tolist() == pytest.approx([100 / 140, 500 / 140])
    # costs of missing class 2: as class 0 one, as class 1 two
    weights = from_cost_matrix([[0, 1, 1], [1, 0, 1], [1, 2, 0]], torch.tensor([1, 1, 1]))
    assert weights.tolist() == pytest.approx([6 / 7, 6 / 7, 9 / 7])


def test_a_cost_matrix_may_name_a_class_without_examples():
    assert from_cost_matrix([[0, 1], [5, 0]], torch.tensor([4, 0])).tolist() == [1, 5]


@given(weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=9), strength=st.floats(0, 1))
def test_annealing_goes_from_one_to_the_target(weights, strength):
    target = torch.tensor(weights, dtype=torch.float64)
    assert annealed(target, 0.0).tolist() == [1] * len(weights)
    assert annealed(target, 1.0).tolist() == weights
    between = annealed(target, strength)
    assert (between >= target.clamp(max=1) - 1e-12).all()
    assert (between <= target.clamp(min=1) + 1e-12).all()


def test_halfway_to_balanced_is_inverse_sqrt():
    counts = torch.tensor([90, 9, 1])
    halfway, root = annealed(balanced(counts), 0.5), inverse_sqrt(counts)
    assert (halfway / halfway[0]).tolist() == pytest.approx((root / root[0]).tolist())


TWO = torch.tensor([90, 10])


@pytest.mark.parametrize("function", [balanced, inverse_sqrt, effective_number])
@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([90, 0, 0], r"the training split has none of class \[1, 2\]"),
        ([90, -1], r"class counts takes finite numbers of 0 or more, got \[90.0, -1.0\]"),
        ([90, math.nan], "class counts takes finite numbers of 0 or more"),
        ([], r"class counts take one number a class, got shape \(0,\)"),
        ([[1, 2]], r"class counts take one number a class, got shape \(1, 2\)"),
    ],
)
def test_bad_counts_are_named(function, counts, message):
    with pytest.raises(ValueError, match=message):
        function(torch.tensor(counts))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: effective_number(TWO, 1.0), r"effective_number.beta takes a number in \[0, 1\), got 1.0"),
        (lambda: explicit([1.0], 2), r"costs takes one number for each of the 2 classes, got \[1.0\]"),
        (lambda: explicit([1.0, -2.0], 2), r"costs takes finite numbers of 0 or more, got \[1.0, -2.0\]"),
        (lambda: explicit([1.0, math.inf], 2), "costs takes finite numbers of 0 or more"),
        (lambda: explicit([0.0, 0.0], 2), "costs takes at least one number above 0"),
        (lambda: from_cost_matrix([[0, 1]], TWO), r"takes 2 rows of 2 numbers, got rows of \[2\]"),
        (lambda: from_cost_matrix([[0, 1], [1]], TWO), r"takes 2 rows of 2 numbers, got rows of \[2, 1\]"),
        (lambda: from_cost_matrix([[1, 1], [1, 0]], TWO), r"a diagonal of zeros .* got \[1.0, 0.0\]"),
        (lambda: from_cost_matrix([[0, -1], [1, 0]], TWO), "cost_matrix takes finite numbers of 0 or more"),
        (lambda: from_cost_matrix([[0, 0], [0, 0]], TWO), "cost_matrix takes a number above 0"),
        (lambda: annealed(TWO, 1.5), r"annealed.strength takes a number in \[0, 1\], got 1.5"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

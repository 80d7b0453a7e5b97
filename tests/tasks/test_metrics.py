"""Metrics of the three problems against scikit-learn and SciPy, and where they are hard to define."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn import metrics as sklearn

from bertlab.tasks.evaluation import Scores
from bertlab.tasks.multi_label import MultiLabel
from bertlab.tasks.regression import Regression
from bertlab.tasks.single_label import SingleLabel


@st.composite
def single_label(draw, classes: int):
    rows = draw(st.integers(1, 40))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    probabilities = (2 * torch.randn(rows, classes, generator=generator)).softmax(dim=1)
    labels = torch.randint(draw(st.integers(1, classes)), (rows,), generator=generator)
    return Scores(probabilities, labels, torch.rand(rows, generator=generator))


@settings(max_examples=60, deadline=None)
@given(scores=single_label(4))
def test_single_label_metrics_are_scikit_learns(scores):
    found = SingleLabel("c2", 15).metrics(scores, ["c0", "c1", "c2", "c3"])
    true, predicted = scores.labels.numpy(), scores.outputs.argmax(dim=1).numpy()
    binary = {"pos_label": 1, "zero_division": 0.0}
    of_positive = (true == 2, predicted == 2)
    expected = {
        "loss": scores.losses.mean(),
        "accuracy": sklearn.accuracy_score(true, predicted),
        "macro_f1": sklearn.f1_score(true, predicted, average="macro", zero_division=0.0),
        "mcc": sklearn.matthews_corrcoef(true, predicted),
        "positive_precision": sklearn.precision_score(*of_positive, **binary),
        "positive_recall": sklearn.recall_score(*of_positive, **binary),
        "positive_f1": sklearn.f1_score(*of_positive, **binary),
    }
    if (true == 2).any():
        area = sklearn.average_precision_score(true == 2, scores.outputs[:, 2])
        expected["positive_average_precision"] = area
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(float(value), abs=1e-5), name


def test_mcc_is_0_where_only_one_class_is_true_or_predicted():
    probabilities = torch.tensor([[0.9, 0.1], [0.8, 0.2]])
    for labels in ([0, 0], [0, 1], [1, 1]):
        found = SingleLabel(None, 15).metrics(
            Scores(probabilities, torch.tensor(labels), torch.zeros(2)), ["a", "b"]
        )
        assert float(found["mcc"]) == 0


def test_calibration_error_at_a_hand_value():
    # confidence 0.75 twice, right once: |0.75 - 0.5|; confidence 0.95 twice, right twice: 0.05; each half the rows
    first = torch.tensor([0.75, 0.75, 0.95, 0.95])
    scores = Scores(torch.stack([first, 1 - first], dim=1), torch.tensor([0, 1, 0, 0]), torch.zeros(4))
    assert float(SingleLabel(None, 10).metrics(scores, None)["calibration_error"]) == pytest.approx(0.15)


def test_confusion_matrix_has_true_classes_in_rows():
    scores = Scores(torch.eye(3)[[0, 1, 1, 2]], torch.tensor([0, 0, 1, 1]), torch.zeros(4))
    assert SingleLabel(None, 15).confusion_matrix(scores).tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 30), classes=st.integers(2, 5), seed=st.integers(0, 10**6))
def test_multi_label_metrics_are_scikit_learns(rows, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(rows, classes, generator=generator) < 0.3).float()
    probabilities = torch.rand(rows, classes, generator=generator)
    found = MultiLabel().metrics(Scores(probabilities, labels, torch.ones(rows)), None)
    true, predicted = labels.numpy().astype(int), (probabilities > 0.5).numpy().astype(int)
    areas = [
        sklearn.average_precision_score(true[:, c], probabilities[:, c].numpy())
        for c in range(classes)
        if true[:, c].any()
    ]
    assert float(found["subset_accuracy"]) == pytest.approx((true == predicted).all(axis=1).mean())
    assert float(found["mean_average_precision"]) == pytest.approx(np.mean(areas) if areas else 0.0, abs=1e-5)
    f1 = sklearn.f1_score(true.ravel(), predicted.ravel(), zero_division=0.0)
    assert float(found["micro_f1"]) == pytest.approx(f1, abs=1e-6)
    macro = sklearn.f1_score(true, predicted, average="macro", zero_division=0.0)
    assert float(found["macro_f1"]) == pytest.approx(macro, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(3, 40), offset=st.sampled_from([0.0, 1000.0]), seed=st.integers(0, 10**6))
def test_regression_metrics_are_scipys(rows, offset, seed):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randn(rows, generator=generator).round(decimals=1) + offset
    values = targets + torch.randn(rows, generator=generator)
    found = Regression().metrics(Scores(values[:, None], targets, torch.ones(rows)), None)
    assert float(found["mse"]) == pytest.approx(sklearn.mean_squared_error(targets, values), rel=1e-3)
    assert float(found["mae"]) == pytest.approx(sklearn.mean_absolute_error(targets, values), rel=1e-3)
    if len(set(targets.tolist())) > 1:
        pair = values.double(), targets.double()
        assert float(found["pearson"]) == pytest.approx(pearsonr(*pair).statistic, abs=1e-4)
        assert float(found["spearman"]) == pytest.approx(spearmanr(*pair).statistic, abs=1e-4)


@pytest.mark.parametrize(
    ("values", "targets"), [([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]), ([1.0, 2.0], [3.0, 3.0]), ([1.0], [2.0])]
)
def test_correlations_are_0_where_they_are_not_defined(values, targets):
    scores = Scores(torch.tensor(values)[:, None], torch.tensor(targets), torch.zeros(len(values)))
    found = Regression().metrics(scores, None)
    assert float(found["pearson"]) == float(found["spearman"]) == 0

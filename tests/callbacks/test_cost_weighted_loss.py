from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from bertlab.callbacks.cost_weighted_loss import CostWeightedLoss
from tests.callbacks.tiny import CLASSES, StepLog, Timeline, TinyData, TinyTask, fit


def weights(log: StepLog) -> list[Any]:
    return [entry["class_weights"] for entry in log.steps]


def test_balanced_is_scikit_learns(tmp_path: Path) -> None:
    log, timeline = StepLog(), Timeline()
    fit([CostWeightedLoss()], tmp_path, callbacks=(log, timeline))
    labels = [0] * 60 + [1] * 30 + [2] * 10
    expected = compute_class_weight("balanced", classes=torch.arange(3).numpy(), y=labels)
    assert all(found == pytest.approx(expected) for found in weights(log))
    event = next(facts for *_, what, facts in timeline.events if what == "class_weights")
    assert event["weights"] == pytest.approx(dict(zip(CLASSES, expected, strict=True)))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"weights": "costs", "costs": {"news": 5.0, "ham": 1.0, "spam": 2.0}}, [1.0, 2.0, 5.0]),
        # Rows sum to 1, 2 and 10; n / Σ V·n = 100 / (60 + 60 + 100) scales them to a mean of 1.
        (
            {"weights": "cost_matrix", "cost_matrix": [[0, 1, 0], [1, 0, 1], [5, 5, 0]]},
            [100 / 220, 200 / 220, 1000 / 220],
        ),
    ],
)
def test_costs(arguments: dict[str, Any], expected: list[float], tmp_path: Path) -> None:
    log = StepLog()
    fit([CostWeightedLoss(**arguments)], tmp_path, callbacks=(log,), epochs=1)
    assert weights(log)[0] == pytest.approx(expected)


@pytest.mark.parametrize("start", [{"start_epoch": 1}, {"start_fraction": 1 / 3}, {"start_step": 6}])
def test_deferred_start_and_annealing(start: dict[str, Any], tmp_path: Path) -> None:
    log = StepLog()
    fit([CostWeightedLoss(anneal_fraction=2 / 9, **start)], tmp_path, callbacks=(log,))  # over 4 of 18 steps
    found, target = weights(log), torch.tensor([100 / 180, 100 / 90, 100 / 30])
    assert found[:6] == [None] * 6
    for step, strength in enumerate([0, 0.25, 0.5, 0.75, 1, 1], start=6):
        assert found[step] == pytest.approx((target**strength).tolist())


def test_weights_change_what_is_learnt(tmp_path: Path) -> None:
    plain, _ = fit([], tmp_path)
    weighted, _ = fit([CostWeightedLoss()], tmp_path)
    assert not torch.equal(plain.head.weight, weighted.head.weight)


def test_one_batch_or_micro_batches(tmp_path: Path) -> None:
    """Trap 13: gradient accumulation must not change the objective."""

    whole, _ = fit([CostWeightedLoss()], tmp_path, task=TinyTask(dropout=0.0), data=TinyData(6))
    split, _ = fit(
        [CostWeightedLoss()],
        tmp_path,
        task=TinyTask(dropout=0.0),
        data=TinyData(24),
        accumulate_grad_batches=4,
    )
    for one, other in zip(whole.parameters(), split.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "costs", "costs": {"ham": 1.0, "spam": 2.0}}, r"missing \['news'\], unknown \[\]"),
        (
            {"weights": "costs", "costs": {"ham": 1, "spam": 2, "nws": 1}},
            r"missing \['news'\], unknown \['nws'\]",
        ),
        ({"weights": "costs", "costs": {"ham": -1, "spam": 2, "news": 1}}, "numbers of 0 or more"),
        ({"weights": "costs", "costs": {"ham": float("nan"), "spam": 2, "news": 1}}, "finite numbers"),
        ({"weights": "cost_matrix", "cost_matrix": [[0, 1], [1, 0]]}, "3 rows of 3 numbers"),
        ({"weights": "effective_number", "beta": 1.0}, r"beta takes a number in \[0, 1\)"),
    ],
)
def test_costs_that_do_not_fit_the_classes(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    task = TinyTask()
    with pytest.raises(ValueError, match=message):
        fit([CostWeightedLoss(**arguments)], tmp_path, task=task)
    assert task.losses == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "fair"}, "'fair'; accepted are balanced"),
        ({"costs": {"ham": 1.0}}, "`costs` goes with weights: costs"),
        ({"weights": "cost_matrix"}, "`cost_matrix` goes with weights: cost_matrix"),
        ({"start_step": 3, "start_epoch": 1}, "start_epoch and start_step clash"),
        ({"start_fraction": 1.5}, "start_fraction: 1.5 is out of range"),
        ({"anneal_fraction": -1}, "anneal_fraction: -1 is not in"),
    ],
)
def test_arguments_that_clash(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CostWeightedLoss(**arguments)


def test_a_task_without_classes(tmp_path: Path) -> None:
    class Regression(TinyTask):
        set_class_weights = None  # type: ignore[assignment]

    with pytest.raises(
        TypeError, match="CostWeightedLoss weighs classes, and Regression takes no class weights"
    ):
        fit([CostWeightedLoss()], tmp_path, task=Regression())

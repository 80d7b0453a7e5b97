from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from bertlab.callbacks.classes import classes_of
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


class Mixture:
    """What a strategy sees of a trainer of several tasks: a regression among them, and the model's own order."""

    def __init__(self) -> None:
        spam, tags = TinyData(), TinyData()
        tags.label_names = ("O", "B-x", "I-x")
        tags.class_counts = lambda: torch.tensor([80, 10, 10])
        price = TinyData()
        price.label_names = None
        parts = {"tags": tags, "price": price, "spam": spam}
        self.datamodule = SimpleNamespace(tasks=parts)
        self.lightning_module = SimpleNamespace(tasks=dict.fromkeys(["spam", "price", "tags"]))


def target(**arguments: Any) -> list[float]:
    strategy = CostWeightedLoss(**arguments)
    return strategy._target(classes_of(Mixture())).tolist()  # pyright: ignore[reportArgumentType]


def test_each_of_several_tasks_is_weighed_by_its_own_classes() -> None:
    spam, tags = [100 / 180, 100 / 90, 100 / 30], [100 / 240, 100 / 30, 100 / 30]
    assert target() == pytest.approx(spam + tags)
    assert target(tasks=["tags"]) == pytest.approx([1, 1, 1, *tags])
    assert target(weights="cost_matrix", cost_matrix=[[0, 1, 0], [1, 0, 1], [5, 5, 0]], tasks=["spam"]) == (
        pytest.approx([100 / 220, 200 / 220, 1000 / 220, 1, 1, 1])
    )
    costs = {"tags/O": 1.0, "tags/B-x": 4.0, "tags/I-x": 2.0}
    assert target(weights="costs", costs=costs, tasks=["tags"]) == pytest.approx([1, 1, 1, 1, 4, 2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"tasks": ["price"]},
            r"tasks takes names of tasks that have classes, got \['price'\]; these are spam, tags",
        ),
        ({"tasks": []}, r"got \[\]; these are spam, tags"),
        (
            {"weights": "cost_matrix", "cost_matrix": [[0, 1], [1, 0]]},
            "cost_matrix is of the classes of one task, and spam, tags are weighed: name one of them in `tasks`",
        ),
        (
            {"weights": "costs", "costs": {"O": 1.0}, "tasks": ["tags"]},
            r"missing \['tags/B-x', .* unknown \['O'\]",
        ),
    ],
)
def test_what_does_not_fit_several_tasks_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        target(**arguments)


def test_tasks_are_not_named_where_there_is_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got \['spam'\]; there is one task alone: leave the key out"):
        fit([CostWeightedLoss(tasks=["spam"])], tmp_path)

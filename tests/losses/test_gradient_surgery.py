"""Algorithm 1 of Yu et al. 2020, by hand and against a plain reference."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from bertlab.losses.gradient_surgery import random_orders, surgery_weights
from bertlab.losses.task_gradients import TaskGradients


def reference(gradients: list[Tensor], orders: list[list[int]]) -> Tensor:
    """The algorithm as the paper writes it, line by line, on vectors."""
    projected = [gradient.clone() for gradient in gradients]
    for i, order in enumerate(orders):
        for j in order:
            product = torch.dot(projected[i], gradients[j])
            if product < 0:
                projected[i] = projected[i] - product / gradients[j].norm() ** 2 * gradients[j]
    return torch.stack(projected).sum(0)


def surgery(gradients: list[Tensor], orders: list[list[int]]) -> Tensor:
    stacked = torch.stack(gradients)
    return surgery_weights(stacked @ stacked.T, orders).to(stacked.dtype) @ stacked


def test_two_that_conflict_by_hand():
    # g₁ = (3, 0), g₂ = (−1, 2): product −3. g₁ + 3/5·g₂ = (2.4, 1.2); g₂ + 3/9·g₁ = (0, 2).
    one, other = torch.tensor([3.0, 0.0]), torch.tensor([-1.0, 2.0])
    weights = surgery_weights(torch.tensor([[9.0, -3.0], [-3.0, 5.0]]), [[1], [0]])
    assert weights.tolist() == pytest.approx([1 + 1 / 3, 1 + 3 / 5])
    assert surgery([one, other], [[1], [0]]).tolist() == pytest.approx([2.4, 3.2])


def test_the_order_matters_by_hand():
    # g₁ = (1, 0) meets g₂ = (−1, 1) and g₃ = (0, −1).
    # g₂ first: (½, ½), then g₃ has product −½: (½, 0). g₃ first: product 0, then g₂: (½, ½).
    gradients = [torch.tensor(g) for g in ([1.0, 0.0], [-1.0, 1.0], [0.0, -1.0])]
    rest = [[0, 2], [0, 1]]  # g₂: along g₁ (0, 1), then g₃: (0, 0). g₃: g₁ nothing, g₂: (−½, −½).
    assert surgery(gradients, [[1, 2], *rest]).tolist() == pytest.approx([0.5 - 0.5, -0.5])
    assert surgery(gradients, [[2, 1], *rest]).tolist() == pytest.approx([0.5 - 0.5, 0.5 - 0.5])


def test_without_a_conflict_nothing_changes():
    assert surgery_weights(torch.tensor([[1.0, 0.5], [0.5, 1.0]]), [[1], [0]]).tolist() == [1, 1]
    assert surgery_weights(torch.zeros(3, 3), [[1, 2], [0, 2], [0, 1]]).tolist() == [1, 1, 1]


def test_opposite_gradients_cancel():
    assert surgery([torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 0.0])], [[1], [0]]).tolist() == [0, 0]


@pytest.mark.parametrize("tasks", [2, 3, 5])
def test_it_is_the_papers_algorithm(tasks):
    generator = torch.Generator().manual_seed(tasks)
    for _ in range(20):
        gradients = list(torch.randn(tasks, 7, generator=generator, dtype=torch.float64))
        orders = random_orders(tasks, generator)
        torch.testing.assert_close(surgery(gradients, orders), reference(gradients, orders))


def test_orders_are_of_the_others_and_random():
    generator = torch.Generator().manual_seed(0)
    drawn = [random_orders(4, generator) for _ in range(200)]
    for orders in drawn:
        assert [sorted([task, *order]) for task, order in enumerate(orders)] == [[0, 1, 2, 3]] * 4
    assert {tuple(orders[0]) for orders in drawn} == set(itertools.permutations([1, 2, 3]))
    assert random_orders(3, torch.Generator().manual_seed(1)) == random_orders(
        3, torch.Generator().manual_seed(1)
    )


def test_gradients_of_tasks_are_summed_exchanged_and_written():
    matrix, bias, idle = (nn.Parameter(torch.zeros(shape)) for shape in ((1, 2), (1,), (1,)))
    taken = TaskGradients()
    for share in (0.25, 0.75):
        taken.add("b", [matrix, bias, idle], [torch.tensor([[4.0, 8.0]]), None, None], share)
    taken.add("a", [matrix, bias, idle], [torch.tensor([[1.0, 0.0]]), torch.tensor([2.0]), None])
    assert taken.tasks == ["a", "b"]
    assert taken.products().tolist() == [[5.0, 4.0], [4.0, 80.0]]
    taken.exchange(lambda gradient: gradient / 2)
    matrix.grad, bias.grad = torch.ones(1, 2), torch.ones(1)
    taken.write(torch.tensor([1.0, 0.5]))
    assert matrix.grad.tolist() == [[1.5, 2.0]]
    assert bias.grad.tolist() == [1.0]
    assert idle.grad is None
    assert taken.tasks == []

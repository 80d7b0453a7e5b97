"""RowAdamW beside torch.optim.AdamW, which updates every row."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from bertlab.encoders.word_table import WordTable
from bertlab.optimizers.row_adamw import FEW, RowAdamW
from tests.bits import assert_equal
from tests.ranks import on_two_ranks

ROWS, WIDTH = 64, 16
DEFAULTS: dict[str, Any] = {"lr": 0.1, "table_rows": 8}


def table(seed: int = 0) -> nn.Parameter:
    return nn.Parameter(torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(seed)))


def gradient(rows: list[int], seed: int) -> torch.Tensor:
    """Zero but in some rows."""
    made = torch.zeros(ROWS, WIDTH)
    made[rows] = torch.randn(len(rows), WIDTH, generator=torch.Generator().manual_seed(seed))
    return made


def row_adamw(parameter: nn.Parameter, **arguments: Any) -> RowAdamW:
    return RowAdamW([parameter], **{**DEFAULTS, **arguments})


def train(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, steps: list[list[int]]) -> None:
    for seed, rows in enumerate(steps):
        parameter.grad = gradient(rows, seed)
        optimizer.step()


named = st.lists(st.lists(st.integers(0, ROWS - 1), max_size=20, unique=True), min_size=1, max_size=8)


@settings(deadline=None)
@given(named)
def test_updates_as_adamw(steps: list[list[int]]) -> None:
    """Of few rows and of many, named once or again and again, and none."""
    ours, torchs = table(), table()
    train(row_adamw(ours, weight_decay=0.0), ours, steps)
    train(torch.optim.AdamW([torchs], lr=0.1, weight_decay=0.0), torchs, steps)
    torch.testing.assert_close(ours, torchs, rtol=1e-5, atol=1e-6)


@settings(deadline=None)
@given(named)
def test_decays_a_row_from_its_first_gradient_on(steps: list[list[int]]) -> None:
    """Each row is that of a table which is trained from the step on in which the row is named first."""
    steps = [[row for row in rows if row < FEW * ROWS] for rows in steps]
    ours, start = table(), table()
    train(row_adamw(ours, weight_decay=0.1), ours, steps)
    for row in range(ROWS):
        first = next((number for number, rows in enumerate(steps) if row in rows), len(steps))
        if first == len(steps):
            assert torch.equal(ours[row], start[row])
            continue
        alone, counted = nn.Parameter(start[row : row + 1].detach().clone()), len(steps)
        optimizer = torch.optim.AdamW([alone], lr=0.1, weight_decay=0.1)
        for number in range(counted):
            alone.grad = gradient(steps[number], number)[row : row + 1]
            before = alone.detach().clone()
            optimizer.step()
            if number < first:  # the step counts, its decay does not
                alone.data.copy_(before)
        torch.testing.assert_close(ours[row], alone[0], rtol=1e-5, atol=1e-6)


def test_by_hand() -> None:
    """The first update of Adam is lr·sign(g), after the decay by 1 - lr·λ."""
    weight = nn.Parameter(torch.full((8, 2), 2.0))
    weight.grad = torch.zeros(8, 2)
    weight.grad[3] = torch.tensor([-4.0, 1e-3])
    optimizer = RowAdamW([weight], lr=0.1, weight_decay=0.5, table_rows=8)
    optimizer.step()
    expected = torch.full((8, 2), 2.0)
    expected[3] = torch.tensor([2.0 * 0.95 + 0.1, 2.0 * 0.95 - 0.1])
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("value", [-1.0, -0.5, 1e-30, math.nan])
def test_any_number_but_zero_names_a_row(value: float) -> None:
    weight = table()
    weight.grad = torch.zeros(ROWS, WIDTH)
    weight.grad[5, 7] = value
    optimizer = row_adamw(weight)
    optimizer.step()
    assert optimizer.state[weight]["active"].nonzero().flatten().tolist() == [5]


def test_rows_that_a_word_table_names_are_those_that_are_not_zero() -> None:
    words = WordTable.of(nn.Embedding(ROWS, WIDTH, padding_idx=0))
    plain = nn.Embedding.from_pretrained(words.weight.detach().clone(), freeze=False, padding_idx=0)
    weights = [cast("nn.Parameter", table.weight) for table in (words, plain)]
    optimizers = [row_adamw(weight) for weight in weights]
    factors = torch.tensor([[1.0], [1.0], [0.0], [1.0]])
    for ids in torch.tensor([[3, 0, 5, 3], [5, 7, 9, 3], [9, 9, 3, 0]]):
        for table, optimizer in zip((words, plain), optimizers, strict=True):
            optimizer.zero_grad()
            (table(ids).square() * factors).sum().backward()
            optimizer.step()
        assert torch.equal(words.weight, plain.weight)
    states = [dict(o.state[weight]) for o, weight in zip(optimizers, weights, strict=True)]
    assert_equal(states[0], states[1])
    assert states[0]["active"].nonzero().flatten().tolist() == [3, 5, 7, 9]


def two_steps(gradient_as_bucket_view: bool) -> tuple[torch.Tensor, list[int]]:
    """Of a word table under DDP; each rank has other words."""
    torch.distributed.init_process_group("gloo")
    words = WordTable.of(nn.Embedding(ROWS, WIDTH, _weight=table().detach()))
    model = DistributedDataParallel(words, gradient_as_bucket_view=gradient_as_bucket_view)
    optimizer = row_adamw(cast("nn.Parameter", words.weight))
    for first in (0, 4):
        ids = torch.arange(first, first + 2) + 2 * torch.distributed.get_rank()
        optimizer.zero_grad()
        model(ids).square().sum().backward()
        optimizer.step()
    return words.weight.detach(), optimizer.state[words.weight]["active"].nonzero().flatten().tolist()


@pytest.mark.parametrize("gradient_as_bucket_view", [False, True])
def test_ranks_update_the_rows_that_either_names(gradient_as_bucket_view: bool, tmp_path: Path) -> None:
    first, second = on_two_ranks(two_steps, tmp_path, gradient_as_bucket_view)
    assert first[1] == second[1] == list(range(8))
    assert torch.equal(first[0], second[0])


def test_keeps_moments_of_the_named_rows_alone() -> None:
    weight = table()
    optimizer = row_adamw(weight)
    train(optimizer, weight, [[9, 3], [3, 4]])
    state = optimizer.state[weight]
    assert state["exp_avg"].shape == state["exp_avg_sq"].shape == (3, WIDTH)
    second = 0.1 * gradient([3, 4], 1)
    expected = 0.9 * (0.1 * gradient([9, 3], 0)) + second
    torch.testing.assert_close(state["exp_avg"], expected[[3, 4, 9]])
    train(optimizer, weight, [list(range(30))])
    assert state["exp_avg"].shape == (ROWS, WIDTH)


def test_a_small_matrix_and_a_vector_are_updated_whole() -> None:
    for shape in [(7, WIDTH), (ROWS,)]:
        parameter = nn.Parameter(torch.ones(shape))
        parameter.grad = torch.zeros(shape)
        row_adamw(parameter, weight_decay=0.5).step()
        assert torch.equal(parameter.detach(), torch.full(shape, 0.95))


def saved(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("steps", [[[1, 2], [2, 3]], [list(range(40)), [1]]], ids=["few", "all"])
def test_goes_on_from_a_checkpoint_to_the_bit(steps: list[list[int]]) -> None:
    straight = table()
    train(row_adamw(straight), straight, [*steps, *steps])
    weight = table()
    optimizer = row_adamw(weight)
    train(optimizer, weight, steps)
    resumed = nn.Parameter(weight.detach().clone())
    again = row_adamw(resumed)
    again.load_state_dict(saved(optimizer))
    assert_equal(dict(again.state[resumed]), dict(optimizer.state[weight]))
    train(optimizer, weight, steps)
    train(again, resumed, steps)
    assert torch.equal(resumed, weight)
    assert not torch.equal(resumed, straight)  # whose gradients were those of the first steps again


def test_goes_on_from_a_checkpoint_of_adamw() -> None:
    ours, torchs = table(), table()
    before = torch.optim.AdamW([ours], lr=0.1)
    other = torch.optim.AdamW([torchs], lr=0.1)
    for optimizer, weight in [(before, ours), (other, torchs)]:
        train(optimizer, weight, [[1, 2], [3]])
    after = row_adamw(ours)
    after.load_state_dict(saved(before))
    train(after, ours, [[4], [5, 1]])
    train(other, torchs, [[4], [5, 1]])
    torch.testing.assert_close(ours, torchs, rtol=1e-5, atol=1e-6)


def test_goes_on_with_all_rows() -> None:
    """As on another device than the CPU."""
    ours, torchs = table(), table()
    optimizer = row_adamw(ours, weight_decay=0.0)
    train(optimizer, ours, [[1, 2], [3]])
    optimizer.param_groups[0]["table_rows"] = ROWS + 1
    train(optimizer, ours, [[4, 1], []])
    assert optimizer.state[ours]["exp_avg"].shape == (ROWS, WIDTH)
    other = torch.optim.AdamW([torchs], lr=0.1, weight_decay=0.0)
    train(other, torchs, [[1, 2], [3]])
    train(other, torchs, [[4, 1], []])
    torch.testing.assert_close(ours, torchs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight_decay": -1.0}, "RowAdamW.weight_decay takes a number of 0 or more, got -1.0"),
        ({"eps": math.nan}, "RowAdamW.eps"),
        ({"betas": (0.9, 1.0)}, "RowAdamW.betas"),
        ({"table_rows": 0}, "RowAdamW.table_rows takes a number of 1 or more, got 0"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        row_adamw(table(), **arguments)

"""The word table gives what torch's embedding gives, and its gradient uses its memory again only when it is free."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bertlab.encoders.word_table import WordTable, swap_word_table
from bertlab.interfaces.gradient_rows import named_rows

IDS = torch.tensor([[3, 1, 3], [0, 2, 1]])


def tables(
    dtype: torch.dtype = torch.float32, padding_idx: int | None = None
) -> tuple[WordTable, nn.Embedding]:
    torch.manual_seed(0)
    plain = nn.Embedding(5, 4, padding_idx, dtype=dtype)
    return WordTable.of(copy.deepcopy(plain)), plain


def backward(table: nn.Embedding, factor: float = 1.0) -> Tensor:
    output = table(IDS)
    (output * torch.arange(output.numel()).view_as(output) * factor).sum().backward()
    return output


@pytest.mark.parametrize("padding_idx", [None, 0, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gives_what_the_embedding_of_torch_gives(dtype: torch.dtype, padding_idx: int | None):
    ours, theirs = tables(dtype, padding_idx)
    for _ in range(2):
        assert torch.equal(backward(ours), backward(theirs))
        assert torch.equal(ours.weight.grad, theirs.weight.grad)
        ours.zero_grad()
        theirs.zero_grad()


def test_memory_is_used_again_once_the_gradient_is_gone():
    """Also the test that torch still counts who holds a storage, and takes a gradient over without a copy."""
    table, _ = tables()
    backward(table)
    first = table.weight.grad.data_ptr()
    table.zero_grad()
    other = torch.randn(5, 4)  # may take memory that was set free
    backward(table)
    assert table.weight.grad.data_ptr() == first
    assert other.data_ptr() != first


def test_a_gradient_that_is_held_stays_as_it_is():
    table, plain = tables()
    backward(table)
    held = table.weight.grad
    table.zero_grad()
    backward(table, 2.0)
    backward(plain)
    assert torch.equal(held, plain.weight.grad)
    assert torch.equal(table.weight.grad, 2 * plain.weight.grad)
    assert table.weight.grad.data_ptr() != held.data_ptr()


def test_a_view_of_a_gradient_holds_it():
    table, _ = tables()
    backward(table)
    row = table.weight.grad[3]
    before = row.clone()
    table.zero_grad()
    backward(table, 3.0)
    assert torch.equal(row, before)


def test_gradients_add_up_over_micro_batches():
    table, plain = tables()
    for factor in (1.0, 2.0, 0.5):
        backward(table, factor)
        backward(plain, factor)
    assert torch.equal(table.weight.grad, plain.weight.grad)


def test_gradients_of_several_losses_by_autograd_are_their_own():
    table, plain = tables()
    ours = [torch.autograd.grad(table(IDS).sum() * factor, table.weight)[0] for factor in (1.0, 2.0)]
    theirs = [torch.autograd.grad(plain(IDS).sum() * factor, plain.weight)[0] for factor in (1.0, 2.0)]
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_names_the_rows_of_a_gradient_that_nobody_changed():
    table, _ = tables()
    backward(table)
    assert set(named_rows(table.weight).tolist()) == {0, 1, 2, 3}
    changed = copy.deepcopy(table.weight.grad)
    table.weight.grad = changed  # equal, but who knows
    assert named_rows(table.weight) is None
    table.zero_grad()
    assert named_rows(table.weight) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda weight: weight.grad.add_(1.0),
        lambda weight: weight.grad[4].fill_(2.0),
        lambda weight: nn.utils.clip_grad_norm_([weight], 1.0),
        lambda weight: nn.functional.mse_loss(weight, torch.ones(5, 4)).backward(),
    ],
    ids=["in place", "in a row", "clipped", "another loss"],
)
def test_a_changed_gradient_leaves_nothing_behind(change: Callable[[nn.Parameter], object]):
    table, plain = tables()
    backward(table)
    change(table.weight)
    assert named_rows(table.weight) is None
    table.zero_grad()
    for each in (table, plain):
        (each(IDS[:, :1]) * 3.0).sum().backward()
    assert torch.equal(table.weight.grad, plain.weight.grad)
    assert set(named_rows(table.weight).tolist()) == {0, 3}


def test_a_tied_weight_gets_both_gradients():
    table, plain = tables()
    for each in (table, plain):
        (each(IDS) @ each.weight.t()).square().sum().backward()
    torch.testing.assert_close(table.weight.grad, plain.weight.grad)


def test_a_copy_has_memory_of_its_own():
    table, _ = tables()
    backward(table)
    for other in (copy.deepcopy(table), pickle.loads(pickle.dumps(table))):
        other.zero_grad()
        backward(other, 2.0)
        assert torch.equal(other.weight.grad, 2 * table.weight.grad)


def test_frozen_or_without_gradients_it_is_the_embedding_of_torch():
    table, plain = tables()
    with torch.no_grad():
        assert torch.equal(table(IDS), plain(IDS))
    table.weight.requires_grad_(False)
    assert not table(IDS).requires_grad


def test_swap_keeps_names_and_the_parameter():
    model = nn.Sequential(nn.Embedding(5, 4, 0), nn.Embedding(3, 4))
    before = dict(model.named_parameters())
    swap_word_table(model, model[0])
    assert type(model[0]) is WordTable
    assert type(model[1]) is nn.Embedding
    assert all(parameter is before[name] for name, parameter in model.named_parameters())


def test_a_table_with_an_option_of_its_own_stays():
    model = nn.Sequential(nn.Embedding(5, 4, max_norm=1.0))
    swap_word_table(model, model[0])
    assert type(model[0]) is nn.Embedding

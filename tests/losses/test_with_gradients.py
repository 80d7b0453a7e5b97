"""A loss worked off in parts is the loss of the whole, for whoever calls backward."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from bertlab.losses.with_gradients import add_gradients, gradients_of, with_gradients


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def loss_of(made: nn.Module, seed: int) -> Tensor:
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return made(x).square().mean()


def gradients(made: nn.Module) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in made.parameters()]


def test_parts_give_the_gradient_of_their_sum() -> None:
    whole, parts = model(), model()
    (loss_of(whole, 0) + 2 * loss_of(whole, 1) + loss_of(whole, 2)).backward()
    parameters, total, summed = list(parts.parameters()), torch.zeros(()), [None] * 4
    for seed, factor in ((0, 1), (1, 2)):
        loss = factor * loss_of(parts, seed)
        summed = add_gradients(summed, gradients_of(loss, parameters))
        total = total + loss.detach()
    loss = with_gradients(total, parameters, summed) + loss_of(parts, 2)
    loss.backward()
    torch.testing.assert_close(gradients(parts), gradients(whole))
    assert loss.item() == pytest.approx(
        sum(f * float(loss_of(whole, s)) for s, f in ((0, 1), (1, 2), (2, 1)))
    )


def test_it_is_scaled_and_accumulated_as_any_loss() -> None:
    whole, parts = model(), model()
    for seed in (0, 1):
        (loss_of(whole, seed) / 2).backward()
        loss = loss_of(parts, seed)
        found = gradients_of(loss, list(parts.parameters()))
        (with_gradients(loss, list(parts.parameters()), found) / 2).backward()
    torch.testing.assert_close(gradients(parts), gradients(whole))


def test_it_can_be_nested() -> None:
    """What one strategy has worked off is a loss that another one takes the gradient of."""
    made = model()
    parameters = list(made.parameters())
    plain = gradients_of(loss_of(made, 0), parameters)
    loss = loss_of(made, 0)
    inner = with_gradients(loss, parameters, gradients_of(loss, parameters))
    outer = gradients_of(3 * inner + loss_of(made, 0), parameters)
    torch.testing.assert_close(outer, [4 * g for g in plain if g is not None])


def test_what_has_no_gradient_gets_none() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    found = gradients_of((used**2).sum(), [used, unused])
    assert found[1] is None
    with_gradients(torch.tensor(1.0), [used, unused], found).backward()
    assert used.grad is not None
    assert unused.grad is None


def test_nothing_is_left_behind() -> None:
    """No `.grad`, no hook of a reducer, before the one backward."""
    made, fired = model(), []
    parameters = list(made.parameters())
    for parameter in parameters:
        parameter.register_post_accumulate_grad_hook(lambda p: fired.append(p.shape))
    loss = loss_of(made, 0)
    found = gradients_of(loss, parameters)
    assert fired == []
    assert gradients(made) == [None] * 4
    (with_gradients(loss, parameters, found) + loss_of(made, 1)).backward()
    assert sorted(fired) == sorted(p.shape for p in parameters)  # each once, with both parts in it


def test_gradients_that_are_one_tensor_are_not_added_in_place() -> None:
    one, other = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    first = gradients_of((one + other).sum(), [one, other])
    kept = [g.clone() for g in first if g is not None]
    summed = add_gradients(first, first)
    torch.testing.assert_close(first, kept)
    torch.testing.assert_close(summed, [2 * g for g in kept])


class Held:
    """A tensor that a graph keeps for its backward."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def test_one_graph_at_a_time() -> None:
    made = model()
    parameters = list(made.parameters())
    held: list[weakref.ref[Held]] = []

    def keep(tensor: Tensor) -> Held:
        holder = Held(tensor)
        held.append(weakref.ref(holder))
        return holder

    losses = []
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda holder: holder.tensor):
        for seed in range(3):
            before = len(held)
            loss = loss_of(made, seed)
            assert len(held) > before
            found = gradients_of(loss, parameters)
            gc.collect()
            assert all(ref() is None for ref in held[before:])  # the graph of this pass is free
            losses.append(with_gradients(loss, parameters, found))
        alive = [ref for ref in held if ref() is not None]
        assert len(alive) == 3 * len(parameters)  # what waits is the gradients
    total = losses[0] + losses[1] + losses[2]
    total.backward()
    gc.collect()
    assert all(ref() is None for ref in held)
    with pytest.raises(RuntimeError, match="second time"):
        total.backward()


def test_backward_is_outside_autocast() -> None:
    seen = []
    parameter = nn.Parameter(torch.ones(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        doubled = 2 * parameter
        doubled.register_hook(lambda _: seen.append(torch.is_autocast_enabled("cpu")))
        gradients_of(doubled.sum(), [parameter])
        assert torch.is_autocast_enabled("cpu")
    assert seen == [False]


def test_a_gradient_for_each_parameter() -> None:
    with pytest.raises(ValueError, match="zip"):
        with_gradients(torch.tensor(1.0), [nn.Parameter(torch.ones(2))], [])

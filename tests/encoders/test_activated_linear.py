"""A linear layer whose activations are computed again: equal to the bit, in less memory."""

from __future__ import annotations

import itertools
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bertlab.encoders import activated_linear as module
from bertlab.encoders.activated_linear import activated_linear
from bertlab.encoders.from_config import EncoderFromConfig
from bertlab.encoders.packed_layer import PackedLayer
from bertlab.planning.live_tensors import LiveTensors
from tests.encoders.tiny import CONFIGS


@pytest.fixture
def _all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL", 0)


def made(*needs: bool, rows: int = 40) -> list[Tensor]:
    """Input (2, rows, 64), weight and bias, of which some need a gradient."""
    torch.manual_seed(0)
    values = [torch.randn(2, rows, 64), torch.randn(16, 64) / 8, torch.randn(16)]
    return [value.requires_grad_(need) for value, need in zip(values, needs, strict=True)]


def plain(inner: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.linear(functional.gelu(inner), weight, bias)


def again(inner: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return activated_linear(inner, functional.gelu, weight, bias)


@pytest.mark.usefixtures("_all_are_large")
@pytest.mark.parametrize("low", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("needs", [n for n in itertools.product([True, False], repeat=3) if any(n)])
def test_equal_to_the_bit(needs: tuple[bool, bool, bool], low: bool):
    found: list[list[Tensor | None]] = []
    for function in (plain, again):
        values = made(*needs)
        with torch.autocast("cpu", torch.bfloat16) if low else nullcontext():
            inner = values[0].bfloat16() if low else values[0] * 1
            output = function(inner, *values[1:])
            assert output.dtype == (torch.bfloat16 if low else torch.float32)
        output.float().square().sum().backward()
        found.append([output.detach(), *(value.grad for value in values)])
    for one, other in zip(*found, strict=True):
        assert one is other is None or torch.equal(one, other)  # type: ignore[arg-type]


@pytest.mark.usefixtures("_all_are_large")
def test_its_gradient_is_that_of_differences():
    values = [value.detach().double().requires_grad_() for value in made(True, True, True, rows=3)]
    assert torch.autograd.gradcheck(again, values)


def test_what_is_kept_is_the_input_alone_where_it_is_large():
    kept: dict[int, list[int]] = {}
    for rows in (1, module.SMALL // (4 * 2 * 64)):
        for function in (plain, again):
            values = made(True, True, True, rows=rows)
            inner = values[0] * 1
            with LiveTensors() as live:
                output = function(inner, *values[1:])
            kept.setdefault(rows, []).append(live.now - output.nbytes)
            del output
    small, large = kept.values()
    assert small[0] == small[1] > 0, "little is kept as it is"
    assert large[0] >= module.SMALL
    assert large[1] == 0


@pytest.mark.usefixtures("_all_are_large")
def test_a_hook_of_what_is_around_the_activation_is_heeded():
    encoder = EncoderFromConfig("bert", CONFIGS["bert"] | {"vocab_size": 40})
    layers = [module for module in encoder.modules() if isinstance(module, PackedLayer)]
    seen: list[torch.Size] = []
    layers[0].intermediate.register_forward_hook(lambda *call: seen.append(call[2].shape))
    inner = layers[0].attention.self
    context = torch.randn(5, inner.num_attention_heads, inner.attention_head_size)
    layers[0].conclude(context, torch.randn(5, encoder.hidden_size, requires_grad=True))
    assert [shape[0] for shape in seen] == [5]

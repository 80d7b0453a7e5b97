"""A layer that is left out is the identity, with a gradient of zero, for every type of encoder."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.fx import GraphModule

from bertlab.encoders.encoder import Encoder
from bertlab.encoders.layer_drop import dropping
from tests.encoders.tiny import CONFIGS, batch, transformer


def encoder_of(model_type: str, **arguments: bool) -> Encoder:
    encoder = Encoder(transformer(model_type), **arguments)
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return encoder


def layers_of(encoder: Encoder) -> list[nn.Module]:
    return [block.modules[0] for block in encoder.blocks() if block.name.startswith("layer.")]


def left_out(which: set[int]) -> Iterator[bool]:
    """Whether call 0, 1, … of a layer is left out."""
    return iter([number in which for number in range(3)])


@pytest.mark.parametrize("padding_free", [True, False])
@pytest.mark.parametrize("model_type", CONFIGS)
def test_the_hidden_states_pass_by(model_type: str, padding_free: bool) -> None:
    """Seen from the layers below and above, which are called with the same and go on."""
    encoder = encoder_of(model_type, padding_free=padding_free)
    calls: list[torch.Tensor] = []

    def note(module: nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]) -> None:
        calls.append((args[0] if args else kwargs["hidden_states"]).detach().clone())

    layers = layers_of(encoder)
    for layer in layers:
        layer.register_forward_pre_hook(note, with_kwargs=True)
    with dropping(layers, left_out({1}).__next__):
        thinned = encoder(batch())
    assert len(calls) == 3
    assert torch.equal(calls[2], calls[1])  # the second layer gave what it took
    assert not torch.equal(calls[1], calls[0])
    assert not torch.allclose(encoder(batch()).hidden, thinned.hidden)  # after the context it is there again


@pytest.mark.parametrize("model_type", CONFIGS)
def test_gradients_are_zero_and_not_none(model_type: str) -> None:
    encoder = encoder_of(model_type)
    encoder.drop_pooler()
    layers = layers_of(encoder)
    with dropping(layers, left_out({0, 1, 2}).__next__):
        encoder(batch()).hidden.square().sum().backward()
    assert all(p.grad is not None and not p.grad.any() for layer in layers for p in layer.parameters())
    below = [p.grad for p in encoder.blocks()[0].parameters() if p.grad is not None]
    assert any(grad.any() for grad in below)


def test_albert_asks_for_each_use_of_its_layer() -> None:
    encoder = encoder_of("albert")
    layers = layers_of(encoder)
    assert len(layers) == 1
    with dropping(layers, left_out({0, 2}).__next__):
        encoder(batch()).hidden.sum().backward()
    assert all(p.grad is not None for p in layers[0].parameters())
    assert any(p.grad.any() for p in layers[0].parameters() if p.grad is not None)


@pytest.mark.parametrize("asked", ["first", "positions"])
def test_a_packed_last_layer_gives_the_tokens_it_is_asked_for(asked: str) -> None:
    encoder = encoder_of("bert")
    layers = layers_of(encoder)
    texts = batch()
    positions = torch.tensor([3, 41, 60]) if asked == "positions" else None
    with dropping(layers, left_out({2}).__next__):
        part = encoder(texts, first_only=asked == "first", positions=positions)
    with dropping(layers, left_out({2}).__next__):
        whole = encoder(texts)
    assert torch.equal(part.first, whole.first)
    if positions is not None:
        assert torch.equal(part.hidden, whole.hidden[positions])


def test_frozen_layers_stay_in() -> None:
    encoder = encoder_of("bert")
    layers = layers_of(encoder)
    plain = encoder(batch()).hidden
    layers[0].eval()
    with dropping(layers[:1], lambda: True):
        assert torch.equal(encoder(batch()).hidden, plain)


def test_dropout_goes_on_as_if_nothing_had_been_tried_out() -> None:
    encoder = Encoder(
        transformer("deberta-v2")
    )  # of a type whose layers are called once to learn what they give
    layers, states = layers_of(encoder), []
    for _ in range(2):
        torch.manual_seed(0)
        with dropping(layers, lambda: True):
            states.append(encoder(batch()).hidden)
    assert torch.equal(*states)


def test_a_layer_that_gives_more() -> None:
    class Odd(nn.Module):
        def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return hidden, hidden

    odd = Odd()
    with (
        dropping([odd], lambda: True),
        pytest.raises(TypeError, match="a layer of type Odd cannot be left out"),
    ):
        odd(torch.zeros(1, 2))
    assert "forward" not in vars(odd)


def test_compiled_layers_know_nothing_of_other_models() -> None:
    """Else they would be compiled anew when another model goes, or not at all when it goes meanwhile."""
    torch.compiler.reset()
    other, encoder, programs = encoder_of("distilbert"), encoder_of("distilbert"), 0
    plain = []
    for known in (other, encoder):
        with dropping(layers_of(known), lambda: True):
            plain.append(known(batch()).hidden)

    def backend(graph: GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        nonlocal programs
        programs += 1
        return graph.forward

    compiled = torch.compile(encoder.forward, backend=backend)
    with dropping(layers_of(encoder), lambda: True):
        assert torch.equal(compiled(batch()).hidden, plain[1])
        before = programs
        del other, known, plain[0]
        gc.collect()
        compiled(batch())
    assert programs == before > 0

"""An encoder that is run in two parts gives, bit for bit, what it gives as a whole."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bertlab.encoders.encoder import Encoder
from bertlab.encoders.packed_layer import PackedLayer
from bertlab.encoders.packing import pack
from bertlab.encoders.two_parts import run_lower
from bertlab.interfaces import Trunk
from tests.encoders.tiny import batch, transformer

DIVISIBLE = ["bert", "roberta", "electra"]


@pytest.mark.parametrize("bfloat16", [False, True])  # where filler stands behind the tokens
@pytest.mark.parametrize("model_type", DIVISIBLE)
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_two_parts_are_the_whole(model_type: str, blocks: int, bfloat16: bool):
    encoder, texts = Encoder(transformer(model_type)).eval(), batch()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        lower = Trunk(blocks, encoder.lower(texts, blocks))
        found = [
            (encoder(texts, **wanted), encoder(texts, **wanted, trunk=lower))
            for wanted in ({}, {"first_only": True}, {"positions": torch.tensor([2, 41])})
        ]
    assert lower.values.shape == (texts.input_ids.shape[0], 32)
    for whole, parts in found:
        for one, other in zip(whole, parts, strict=True):
            assert (one is None) == (other is None)
            assert one is None or torch.equal(one, other)


def test_gradients_of_the_upper_part_are_those_of_the_whole():
    encoder, texts = Encoder(transformer("bert")), batch()
    for number, block in enumerate(encoder.blocks()):
        block.train(number >= 2)
        for parameter in block.parameters():
            parameter.requires_grad_(number >= 2)
    gradients = []
    for trunk in (None, Trunk(2, encoder.lower(texts, 2))):
        torch.manual_seed(0)
        encoder(texts, first_only=True, trunk=trunk).pooled.pow(2).sum().backward()
        gradients.append([p.grad for p in encoder.parameters() if p.requires_grad])
        encoder.zero_grad()
    assert len(gradients[0]) > 20
    assert all(map(torch.equal, *gradients))


@pytest.mark.parametrize("model_type", ["distilbert", "modernbert", "albert", "deberta-v2"])
def test_what_is_not_built_as_bert_cannot_be_divided(model_type: str):
    encoder = Encoder(transformer(model_type))
    assert not encoder.divisible
    with pytest.raises(
        ValueError, match="cannot be divided above its 2 lowest blocks; it has no layers like"
    ):
        encoder.lower(batch(), 2)


def test_neither_can_what_runs_on_padded_tensors():
    assert not Encoder(transformer("bert"), padding_free=False).divisible


@pytest.mark.parametrize("blocks", [0, 4])
def test_it_is_divided_below_its_last_layer(blocks: int):
    with pytest.raises(ValueError, match=f"above its {blocks} lowest blocks; it takes 1 to 3"):
        Encoder(transformer("bert")).lower(batch(), blocks)


def test_a_model_that_does_something_after_its_layers_cannot_be_divided():
    model = transformer("bert")
    model.encoder.register_forward_hook(
        lambda *given: type(given[2])(last_hidden_state=2 * given[2].last_hidden_state)
    )
    encoder = Encoder(model)
    assert any(isinstance(module, PackedLayer) for module in model.modules())
    assert not encoder.divisible


def test_a_layer_that_is_never_run():
    packing = pack(torch.tensor([1]), torch.device("cpu"), max_waste=0.0)
    with pytest.raises(RuntimeError, match="ended without running the layer"):
        run_lower(lambda: None, nn.Linear(1, 1), packing)

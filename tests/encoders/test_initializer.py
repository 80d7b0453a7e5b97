"""A block drawn anew is distributed as in a fresh model of its type, whatever it held before."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel

from bertlab.encoders.encoder import Encoder
from bertlab.encoders.from_config import EncoderFromConfig
from bertlab.encoders.pretrained import PretrainedEncoder
from bertlab.interfaces import Block
from tests.encoders.tiny import CONFIGS, transformer


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_every_block_of_every_type_is_as_in_a_fresh_model(model_type: str) -> None:
    encoder = Encoder(transformer(model_type))  # every parameter away from its first value
    fresh = AutoModel.from_config(
        AutoConfig.for_model(model_type, **CONFIGS[model_type]), dtype=torch.float32
    )
    for block in encoder.blocks():
        block.draw_anew(generator())
    expected = dict(fresh.named_parameters())
    found = dict(encoder.model.named_parameters())
    assert found.keys() == expected.keys()
    for name, value in found.items():
        if expected[name].std() == 0:  # biases and normalisations
            assert torch.equal(value, expected[name]), name
        else:
            # The deviation of the difference of two deviations of n numbers each is 1/√n of them.
            spread = 4 / value.numel() ** 0.5
            assert value.std().item() == pytest.approx(expected[name].std().item(), rel=spread), name
            assert not torch.equal(value, expected[name])


def test_what_came_from_a_checkpoint_is_drawn_too(tmp_path: Path) -> None:
    """transformers marks it as initialised, and leaves it alone."""
    transformer("bert").save_pretrained(tmp_path)
    encoder = PretrainedEncoder(str(tmp_path))
    before = {name: value.clone() for name, value in encoder.model.state_dict().items()}
    block = encoder.blocks()[2]
    block.draw_anew(generator())
    drawn = {id(parameter) for parameter in block.parameters()}
    for name, value in encoder.model.named_parameters():
        assert torch.equal(value, before[name]) == (id(value) not in drawn), name


def test_the_generator_decides_and_torchs_own_is_left_alone() -> None:
    encoder = Encoder(transformer("bert"))
    block, state = encoder.blocks()[1], torch.get_rng_state()
    drawn = []
    for seed in (0, 0, 1):
        block.draw_anew(generator(seed))
        drawn.append([parameter.detach().clone() for parameter in block.parameters()])
    assert all(map(torch.equal, drawn[0], drawn[1]))
    assert not all(map(torch.equal, drawn[0], drawn[2]))
    assert torch.equal(torch.get_rng_state(), state)


def test_truncated_as_the_encoder_was() -> None:
    sizes = dict(CONFIGS["bert"])
    encoder = EncoderFromConfig("bert", sizes, truncated_normal=True)
    block = encoder.blocks()[1]
    block.draw_anew(generator())
    matrices = torch.cat([p.detach().flatten() for p in block.parameters() if p.dim() == 2])
    assert matrices.abs().max() <= 0.04
    # The standard normal distribution cut off at ±2 has the deviation 0.8796.
    assert matrices.std().item() == pytest.approx(0.02 * 0.8796, rel=0.02)


def test_a_copy_draws_its_own_weights() -> None:
    encoder = Encoder(transformer("bert"))
    twin = copy.deepcopy(encoder)
    before = [parameter.detach().clone() for parameter in encoder.parameters()]
    twin.blocks()[1].draw_anew(generator())
    assert all(map(torch.equal, before, encoder.parameters()))
    assert not all(map(torch.equal, before, twin.parameters()))


def test_a_block_that_does_not_know_how() -> None:
    block = Block("head", (torch.nn.Linear(2, 2),), depth=0)
    with pytest.raises(ValueError, match="block 'head' does not know how it is initialised"):
        block.draw_anew(generator())

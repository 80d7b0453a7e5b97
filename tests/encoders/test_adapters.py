"""Adapters of peft in packed encoders: heeded, equal to the papers' formulas, merged, refused."""

from __future__ import annotations

import math
from typing import Any

import peft
import pytest
import torch
from torch import nn
from transformers import AutoModel

from bertlab.encoders.adapters import plain_parameters, settings_of
from bertlab.encoders.encoder import Encoder
from bertlab.encoders.from_config import EncoderFromConfig
from tests.encoders.tiny import CONFIGS, batch, transformer

LINEAR = {"target_modules": "all-linear"}
METHODS: dict[str, Any] = {
    "lora": peft.LoraConfig(r=4, lora_alpha=6, target_modules=["query", "value"]),
    "dora": peft.LoraConfig(r=4, use_dora=True, **LINEAR),
    "rslora": peft.LoraConfig(r=4, use_rslora=True, bias="lora_only", **LINEAR),
    "pissa": peft.LoraConfig(r=4, init_lora_weights="pissa", **LINEAR),
    "ia3": peft.IA3Config(target_modules=["key", "value", "output.dense"], feedforward_modules=["output.dense"]),
    "loha": peft.LoHaConfig(r=3, **LINEAR),
    "lokr": peft.LoKrConfig(r=3, **LINEAR),
    "oft": peft.OFTConfig(r=0, oft_block_size=4, **LINEAR),
}  # fmt: skip


def adapted(model: Any, config: Any, padding_free: bool = True) -> Encoder:
    """An encoder whose adapters are away from their first values, which change nothing."""
    encoder = Encoder(model, padding_free)
    found = encoder.add_adapters(settings_of(config), torch.Generator().manual_seed(0))
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in found.parameters:
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder.eval()


def outputs(encoder: Any, **options: Any) -> torch.Tensor:
    with torch.no_grad():
        found = encoder(batch(), **options)
    return found.first if options else found.hidden


@pytest.mark.parametrize("method", METHODS)
def test_packed_is_padded_and_merged_is_both(method: str) -> None:
    packed, padded = (adapted(transformer("bert"), METHODS[method], free) for free in (True, False))
    assert packed.padding_free
    torch.testing.assert_close(outputs(packed), outputs(padded), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        outputs(packed, first_only=True), outputs(padded, first_only=True), rtol=1e-4, atol=1e-4
    )
    plain = transformer("bert")
    encoder = Encoder(plain).eval()
    assert not torch.allclose(outputs(packed), outputs(encoder), atol=0.01)
    before = {name: value.clone() for name, value in packed.state_dict().items()}
    merged = dict(plain_parameters(packed.model))
    assert {name: value.shape for name, value in merged.items()} == {
        name: value.shape for name, value in plain.named_parameters()
    }
    plain.load_state_dict({name: value.clone() for name, value in merged.items()})
    torch.testing.assert_close(outputs(encoder), outputs(packed), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in packed.state_dict().items())


@pytest.mark.parametrize(("rank_stabilised", "scale"), [(False, 6 / 4), (True, 6 / math.sqrt(4))])
def test_lora_is_the_formula_of_the_paper(rank_stabilised: bool, scale: float) -> None:
    """Hu et al. 2021, section 4.1: W + B·A·α/r; Kalajdzievski 2023: α/√r."""
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["query"], use_rslora=rank_stabilised)
    encoder, plain = adapted(transformer("bert"), config), transformer("bert")
    with torch.no_grad():
        for layer, reference in zip(encoder.model.encoder.layer, plain.encoder.layer, strict=True):
            query = layer.attention.self.query
            a, b = query.lora_A["default"].weight, query.lora_B["default"].weight
            assert (a.shape, b.shape) == ((4, 32), (32, 4))
            reference.attention.self.query.weight.add_(b @ a, alpha=scale)
    torch.testing.assert_close(outputs(Encoder(plain).eval()), outputs(encoder), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model_type", [name for name in CONFIGS if name != "bert"])
def test_every_type_of_encoder(model_type: str) -> None:
    encoder = EncoderFromConfig(model_type, CONFIGS[model_type])
    blocks, modules = encoder.blocks(), [block.modules for block in encoder.blocks()]
    own = {id(parameter) for parameter in encoder.parameters()}
    first = outputs(encoder.eval())
    found = encoder.add_adapters(settings_of(peft.LoraConfig(r=2, **LINEAR)), torch.Generator())
    assert torch.equal(outputs(encoder), first)  # B is 0
    assert [block.modules for block in encoder.blocks()] == modules
    assert all(new is old for new, old in zip(encoder.blocks(), blocks, strict=True))
    held = {id(parameter) for block in blocks for parameter in block.parameters()}
    assert held == {id(parameter) for parameter in encoder.parameters()}
    assert {id(parameter) for parameter in found.parameters} == held - own
    plain = AutoModel.from_config(encoder.config)
    plain.load_state_dict({name: value.clone() for name, value in plain_parameters(encoder.model)})


def test_first_weights_are_of_the_generator_and_torchs_own_is_left_alone() -> None:
    settings = settings_of(peft.LoraConfig(r=2, **LINEAR))
    made = []
    for seed in (0, 0, 1):
        encoder = Encoder(transformer("bert"))
        state = torch.get_rng_state()
        encoder.add_adapters(settings, torch.Generator().manual_seed(seed))
        assert torch.equal(torch.get_rng_state(), state)
        made.append(torch.cat([p.detach().flatten() for p in encoder.adapters.parameters]))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_hooks_of_a_projection_are_called() -> None:
    encoder, seen = Encoder(transformer("bert")).eval(), []
    expected = outputs(encoder)
    key = encoder.model.encoder.layer[1].attention.self.key
    handle = key.register_forward_hook(lambda *call: seen.append(call[2].shape))
    torch.testing.assert_close(outputs(encoder), expected, rtol=1e-5, atol=1e-5)
    handle.remove()
    outputs(encoder)
    assert seen == [(116, 32)]


def test_a_module_that_stands_for_a_projection_is_heeded() -> None:
    class Twice(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    results = []
    for free in (True, False):
        model = transformer("bert")
        encoder = Encoder(model, free).eval()
        inner = model.encoder.layer[0].attention.self
        other = Twice(32, 32)
        other.load_state_dict(inner.value.state_dict())
        inner.value = other
        results.append(outputs(encoder))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)


def test_the_same_adapters_are_put_in_once_and_others_are_refused() -> None:
    encoder = Encoder(transformer("bert"))
    settings = settings_of(METHODS["lora"])
    assert encoder.add_adapters(settings, torch.Generator()) is encoder.add_adapters(
        settings, torch.Generator()
    )
    with pytest.raises(ValueError, match=r"has adapters already.*'r': 4.*cannot have others.*'r': 8"):
        encoder.add_adapters(settings | {"r": 8}, torch.Generator())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (peft.AdaLoraConfig(total_step=10), "adaptive_rank_adapters.AdaptiveRankAdapters in the place of"),
        (peft.PromptTuningConfig(num_virtual_tokens=3), "got PROMPT_TUNING"),
        (peft.LoraConfig(modules_to_save=["pooler"]), "LoraConfig.modules_to_save changes more"),
        (peft.LoraConfig(init_lora_weights="eva"), "'eva' needs passes over the data"),
        (peft.LoraConfig(target_modules=["word_embeddings"]), "matches 'embeddings.word_embeddings', a WordTable"),
        (peft.LoraConfig(target_modules=["pooler"]), "matches 'pooler', which is no part within a block"),
        (peft.LoraConfig(inference_mode=True, **LINEAR), "inference_mode has to be false"),
        (peft.LoraConfig(target_modules=["nowhere"]), "nowhere"),
    ],
)  # fmt: skip
def test_what_is_refused(config: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Encoder(transformer("bert")).add_adapters(settings_of(config), torch.Generator())

"""Parameter groups: complete, by identity, decay excluded, rates by depth."""

import io
from functools import partial

import pytest
import torch
from torch import nn
from transformers import Adafactor, BertConfig, BertModel

from bertlab.interfaces import Block
from bertlab.optimizers.parameter_groups import build_optimizer, parameter_groups


@pytest.fixture
def bert() -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    return BertModel(config)


def blocks_of(bert: BertModel) -> list[Block]:
    return [
        Block("embeddings", (bert.embeddings,), depth=3),
        *(Block(f"layer.{i}", (layer,), depth=2 - i) for i, layer in enumerate(bert.encoder.layer)),
        Block("pooler", (bert.pooler,), depth=0),
    ]


def test_every_parameter_is_in_exactly_one_group_though_many_are_equal(bert):
    groups = parameter_groups(blocks_of(bert), weight_decay=0.01, model=bert)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in bert.parameters())
    assert all(group["params"] for group in groups)


def test_frozen_parameters_are_in_the_groups_too(bert):
    bert.requires_grad_(False)
    groups = parameter_groups(blocks_of(bert), weight_decay=0.01, model=bert)
    assert sum(len(group["params"]) for group in groups) == len(list(bert.parameters()))


def test_biases_and_normalisations_are_not_decayed(bert):
    groups = parameter_groups(blocks_of(bert), weight_decay=0.01, model=bert)
    undecayed = {id(p) for group in groups if group["weight_decay"] == 0 for p in group["params"]}
    names = {name for name, parameter in bert.named_parameters() if id(parameter) in undecayed}
    assert names == {
        name for name, _ in bert.named_parameters() if name.endswith("bias") or "LayerNorm" in name
    }
    assert {group["weight_decay"] for group in groups} == {0.0, 0.01}


def test_a_normalisation_is_known_by_its_class_and_vectors_by_their_shape():
    class OddRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3, 1))

    model = nn.ModuleDict({"a": OddRMSNorm(), "b": nn.RMSNorm(3), "c": nn.Linear(2, 2)})
    model.register_parameter("gate", nn.Parameter(torch.ones(4)))
    groups = parameter_groups([Block("all", (model,), depth=0)], weight_decay=0.1, model=model)
    decayed = [p for group in groups if group["weight_decay"] for p in group["params"]]
    assert [id(p) for p in decayed] == [id(model["c"].weight)]


def test_a_tied_weight_is_owned_by_the_lowest_block():
    embeddings, decoder = nn.Embedding(5, 4), nn.Linear(4, 5)
    decoder.weight = embeddings.weight
    blocks = [Block("embeddings", (embeddings,), depth=1), Block("head", (decoder,), depth=0)]
    groups = parameter_groups(blocks, weight_decay=0.1)
    owners = [group["block"] for group in groups if any(p is embeddings.weight for p in group["params"])]
    assert owners == ["embeddings"]
    assert [(group["block"], len(group["params"])) for group in groups] == [("embeddings", 1), ("head", 1)]


def test_rates_fall_with_depth(bert):
    groups = parameter_groups(blocks_of(bert), weight_decay=0.01, layer_decay=0.5)
    optimizer = build_optimizer(lambda g: torch.optim.AdamW(g, lr=0.8), groups)
    assert {group["block"]: group["lr"] for group in optimizer.param_groups} == {
        "embeddings": pytest.approx(0.1),
        "layer.0": pytest.approx(0.2),
        "layer.1": pytest.approx(0.4),
        "pooler": pytest.approx(0.8),
    }


@pytest.mark.parametrize(
    ("make", "base"),
    [
        (torch.optim.AdamW, 1e-3),
        (torch.optim.SGD, 1e-3),
        (lambda g: torch.optim.Adafactor(g, lr=0.3), 0.3),
        (lambda g: torch.optim.RAdam(g, lr=0.3), 0.3),
    ],
)
def test_any_optimizer_is_taken_with_its_own_rate_and_decay(bert, make, base):
    blocks = blocks_of(bert)
    own = make([nn.Parameter(torch.ones(1))]).defaults["weight_decay"]
    optimizer = build_optimizer(make, parameter_groups(blocks, weight_decay=None, layer_decay=0.5))
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(base * 0.5 ** group["depth"])
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, own}


def test_block_and_depth_survive_a_checkpoint(bert):
    groups = parameter_groups(blocks_of(bert), weight_decay=0.01)
    optimizer = build_optimizer(torch.optim.AdamW, groups)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    again = build_optimizer(torch.optim.AdamW, parameter_groups(blocks_of(bert), weight_decay=0.01))
    again.load_state_dict(state)
    for before, after in zip(optimizer.param_groups, again.param_groups, strict=True):
        for key in ("block", "depth", "lr", "weight_decay", "rate_factor"):
            assert before[key] == after[key]


def test_a_parameter_in_no_block_is_named(bert):
    with pytest.raises(
        ValueError, match=r"in no block, .*: pooler.dense.weight, pooler.dense.bias; the blocks"
    ):
        parameter_groups(blocks_of(bert)[:-1], weight_decay=0.01, model=bert)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_decay": -1}, "weight_decay takes a number of 0 or more, got -1"),
        ({"layer_decay": 0}, r"layer_decay takes a number in \(0, 1\], got 0"),
        ({"layer_decay": 1.1}, r"layer_decay takes a number in \(0, 1\], got 1.1"),
    ],
)
def test_arguments_out_of_range_are_named(bert, change, message):
    with pytest.raises(ValueError, match=message):
        parameter_groups(blocks_of(bert), **{"weight_decay": 0.01} | change)


def test_blocks_of_one_name_are_refused(bert):
    twice = [Block("layer", (bert.embeddings,), 1), Block("layer", (bert.pooler,), 0)]
    with pytest.raises(
        ValueError, match=r"blocks take names of their own, \['layer'\] are there more than once"
    ):
        parameter_groups(twice, weight_decay=0.0)


def test_an_optimizer_without_a_rate_is_refused():
    class Still(torch.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {})

    groups = parameter_groups([Block("head", (nn.Linear(2, 2),), 0)], weight_decay=0.0)
    with pytest.raises(ValueError, match="Still has none"):
        build_optimizer(Still, groups)


def test_an_optimizer_that_makes_its_own_rate_is_refused():
    groups = parameter_groups([Block("head", (nn.Linear(2, 2),), 0)], weight_decay=0.0)
    make = partial(Adafactor, lr=None, relative_step=True, scale_parameter=True)
    with pytest.raises(ValueError, match=r"optimizer: Adafactor has no rate of its own .* \(lr: null\)"):
        build_optimizer(make, groups)

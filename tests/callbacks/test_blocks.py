from __future__ import annotations

import pytest
from torch import nn

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.trainable import train_blocks
from bertlab.interfaces import Block

NAMES = ["embeddings", "layer.0", "layer.1", "layer.2", "layer.10", "pooler", "head"]


@pytest.fixture
def blocks() -> Blocks:
    return Blocks([Block(name, (nn.Linear(2, 2),), len(NAMES) - 1 - i) for i, name in enumerate(NAMES)])


@pytest.mark.parametrize(
    ("selectors", "expected"),
    [
        (["head"], ["head"]),
        (["layer.1"], ["layer.1"]),  # a name is a name before it is an expression: layer.10 stays out
        (["layer.0-layer.2"], ["layer.0", "layer.1", "layer.2"]),
        (["layer.10-head"], ["layer.10", "pooler", "head"]),
        ([r"layer\.[12]"], ["layer.1", "layer.2"]),
        (["all"], NAMES),
        (["head", "embeddings", "head"], ["embeddings", "head"]),
    ],
)
def test_named(blocks: Blocks, selectors: list[str], expected: list[str]) -> None:
    assert blocks.named(*selectors).names == expected


def test_top_and_bottom(blocks: Blocks) -> None:
    assert blocks.top(2).names == ["pooler", "head"]
    assert blocks.top(0).names == []
    assert blocks.top(99).names == NAMES
    assert blocks.bottom(1).names == ["embeddings"]


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("layer.7", r"'layer.7' matches no block; the blocks are embeddings, layer.0"),
        ("layer.2-layer.0", "runs downwards; write layer.0-layer.2"),
        ("layer.(", "nor a regular expression .*blocks: embeddings"),
    ],
)
def test_selectors_that_fail(blocks: Blocks, selector: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        blocks.named(selector)


def test_a_tied_weight_is_trained_when_any_block_that_holds_it_is() -> None:
    embeddings, decoder = nn.Embedding(5, 3), nn.Linear(3, 5)
    decoder.weight = embeddings.weight
    low, high = Block("embeddings", (embeddings,), 1), Block("head", (decoder,), 0)
    train_blocks([low, high], [high])
    assert embeddings.weight.requires_grad
    train_blocks([low, high], [low])
    assert decoder.weight.requires_grad
    assert not decoder.bias.requires_grad


def test_freezing_goes_by_identity_not_by_value() -> None:
    twins = [nn.LayerNorm(4), nn.LayerNorm(4)]  # equal in every value
    low, high = Block("layer.0", (twins[0],), 1), Block("layer.1", (twins[1],), 0)
    train_blocks([low, high], [high])
    assert [p.requires_grad for p in twins[0].parameters()] == [False, False]
    assert [p.requires_grad for p in twins[1].parameters()] == [True, True]

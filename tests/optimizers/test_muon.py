"""Muon against the definition of its update, torch's own Muon and torch's own AdamW."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel

from bertlab.encoders.blocks import blocks_of
from bertlab.interfaces import Block
from bertlab.optimizers.muon import Muon
from bertlab.optimizers.orthogonal import orthogonalized
from bertlab.optimizers.parameter_groups import build_optimizer, parameter_groups

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(8, 8), (6, 20), (20, 6)])
def test_orthogonal_has_the_singular_vectors_and_values_near_one(shape: tuple[int, int]) -> None:
    matrix = random(*shape)
    u, _, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    found = orthogonalized([matrix])[0].double()
    inside = u.T @ found @ v.T
    assert inside.diagonal().min() > 0.6
    assert inside.diagonal().max() < 1.2
    torch.testing.assert_close(inside, torch.diag(inside.diagonal()), rtol=0, atol=1e-5)


def test_orthogonal_of_many_is_that_of_each() -> None:
    matrices = [random(*shape, seed=i) for i, shape in enumerate([(4, 4), (4, 8), (8, 4), (4, 4), (3, 5)])]
    matrices.append(torch.zeros(4, 8))
    together = orthogonalized(matrices)
    for matrix, found in zip(matrices, together, strict=True):
        torch.testing.assert_close(found, orthogonalized([matrix])[0])
        assert found.shape == matrix.shape
    assert not together[-1].any()


def test_orthogonal_does_not_depend_on_the_size_of_its_matrix() -> None:
    matrix = random(5, 7)
    torch.testing.assert_close(orthogonalized([1e-4 * matrix])[0], orthogonalized([1e3 * matrix])[0])


class Pair:
    """Equal models, one under Muon over bertlab's groups, one under torch's Muon and AdamW."""

    def __init__(self, model: nn.Module, twin: nn.Module, weight_decay: float) -> None:
        twin.load_state_dict(model.state_dict())
        self.model, self.twin = model, twin
        blocks = blocks_of(model)
        head = Block("head", (blocks[-1].modules[0],), 0) if blocks[-1].name == "head" else None
        assert head is None
        self.muon = build_optimizer(
            lambda groups: Muon(groups, lr=1e-3, betas=(0.9, 0.95)),
            parameter_groups(blocks, weight_decay, model=model),
        )
        hidden = {
            name for name, p in model.named_parameters() if p.ndim == 2 and not name.startswith("embeddings.")
        }
        named = dict(twin.named_parameters())
        self.hidden = hidden
        decayed = [p for n, p in named.items() if n not in hidden and p.ndim == 2]
        undecayed = [p for n, p in named.items() if n not in hidden and p.ndim == 1]
        self.theirs = [
            torch.optim.Muon(
                [named[n] for n in sorted(hidden)],
                lr=1e-3,
                weight_decay=weight_decay,
                adjust_lr_fn="match_rms_adamw",
            ),
            torch.optim.AdamW(decayed, lr=1e-3, betas=(0.9, 0.95), weight_decay=weight_decay, foreach=True),
            torch.optim.AdamW(undecayed, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0, foreach=True),
        ]

    def step(self, seed: int) -> None:
        twins = dict(self.twin.named_parameters())
        for number, (name, parameter) in enumerate(self.model.named_parameters()):
            parameter.grad = random(*parameter.shape, seed=1000 * seed + number)
            twins[name].grad = parameter.grad.clone()
        self.muon.step()
        for optimizer in self.theirs:
            optimizer.step()


def test_is_torch_s_muon_in_the_layers_and_torch_s_adamw_elsewhere() -> None:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=30, max_position_embeddings=16, **SIZE)
    pair = Pair(BertModel(config), BertModel(config), weight_decay=0.1)
    start = {name: value.clone() for name, value in pair.model.state_dict().items()}
    for seed in range(4):
        pair.step(seed)
    twins = dict(pair.twin.named_parameters())
    assert len(pair.hidden) == 2 * 6 + 1
    for name, parameter in pair.model.named_parameters():
        if name not in pair.hidden:
            assert torch.equal(parameter, twins[name]), name
        else:
            # torch's rounds to bfloat16 in each iteration.
            moved, theirs = parameter - start[name], twins[name] - start[name]
            assert (moved - theirs).norm() < 0.05 * theirs.norm(), name


def test_an_update_is_as_large_as_one_of_adamw() -> None:
    weight = nn.Parameter(torch.zeros(64, 256))
    weight.grad = random(64, 256)
    Muon([{"params": [weight], "block": "layer.0"}], lr=1.0, weight_decay=0.0).step()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.2 * 0.9, rel=0.15)


def test_each_matrix_of_a_fused_weight_is_made_orthogonal_alone() -> None:
    torch.manual_seed(0)
    config = ModernBertConfig(
        vocab_size=30, pad_token_id=0, cls_token_id=1, bos_token_id=1, sep_token_id=2, eos_token_id=2, **SIZE
    )
    model = ModernBertModel(config)
    optimizer = build_optimizer(
        lambda groups: Muon(groups, lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=False),
        parameter_groups(blocks_of(model), None, model=model),
    )
    weights = {
        name: p for name, p in model.named_parameters() if name.startswith("layers.0.") and p.ndim == 2
    }
    start = {name: p.detach().clone() for name, p in weights.items()}
    for parameter in model.parameters():
        parameter.grad = random(*parameter.shape)
    optimizer.step()
    parts = {"Wqkv": 3, "Wi": 2, "Wo": 1}
    assert len(weights) == 4
    for name, weight in weights.items():
        number = parts[name.split(".")[-2]]
        assert weight.grad is not None
        wanted = [
            0.2 * math.sqrt(max(part.shape)) * orthogonalized([part])[0] for part in weight.grad.chunk(number)
        ]
        torch.testing.assert_close(weight, start[name] - torch.cat(wanted), rtol=1e-4, atol=1e-5, msg=name)
        # As one matrix the rows of the parts would be made orthogonal to each other too, or be too many to be so.
        whole = 0.2 * math.sqrt(max(weight.shape)) * orthogonalized([weight.grad])[0]
        same = torch.allclose(weight, start[name] - whole, rtol=1e-4, atol=1e-5)
        assert same == (number == 1), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, "Muon.lr takes a number of 0 or more, got -1.0"),
        ({"eps": math.nan}, "Muon.eps"),
        ({"momentum": 1.0}, r"Muon.momentum takes a number in \[0, 1\), got 1.0"),
        ({"betas": (0.9, 1.0)}, "Muon.betas"),
        ({"iterations": 0}, "Muon.iterations takes 1 or more, got 0"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Muon([{"params": [nn.Parameter(torch.zeros(2, 2))], "block": "layer.0"}], **arguments)


def test_groups_have_to_name_their_block() -> None:
    with pytest.raises(ValueError, match="groups that name their block"):
        Muon([nn.Parameter(torch.zeros(2, 2))])

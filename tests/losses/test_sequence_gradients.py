"""Gradients of single sequences of a packed batch are those of each sequence run alone."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn

from bertlab.encoders.adapters import settings_of
from bertlab.encoders.from_config import EncoderFromConfig
from bertlab.heads.classification import ClassificationHead
from bertlab.interfaces import TextBatch
from bertlab.losses.sequence_gradients import SequenceGradients
from tests.encoders.tiny import CONFIGS, batch

LENGTHS = [13, 9, 9, 4, 1]
LABELS = torch.tensor([0, 2, 1, 1, 0])


class Classifier(nn.Module):
    def __init__(self, model_type: str = "bert", pool: Any = "mean", **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = EncoderFromConfig(
            model_type, CONFIGS[model_type], dropout=0.0, attention_dropout=0.0, **options
        )
        if pool != "pooled":
            self.encoder.drop_pooler()
        self.head = ClassificationHead(32, 3, dropout=0.0, pool=pool)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))

    def losses(self, texts: TextBatch, labels: Tensor) -> Tensor:
        encoded = self.encoder(texts, first_only=self.head.pool != "mean")
        return nn.functional.cross_entropy(self.head(encoded, texts.lengths), labels, reduction="none")


def alone(model: Classifier, texts: TextBatch) -> list[dict[nn.Parameter, Tensor]]:
    """The gradient of each sequence, each run by itself."""
    found = []
    ids, types = (part.split(LENGTHS) for part in (texts.input_ids, texts.token_type_ids))
    for s in range(len(LENGTHS)):
        own = TextBatch(ids[s], types[s], texts.lengths[s : s + 1], texts.index[s : s + 1])
        parameters = [p for p in model.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(
            model.losses(own, LABELS[s : s + 1]).sum(), parameters, allow_unused=True
        )
        found.append({p: g for p, g in zip(parameters, gradients, strict=True) if g is not None})
    return found


def check(model: Classifier) -> None:
    texts = batch(LENGTHS)
    expected = alone(model, texts)
    with SequenceGradients(model, texts.lengths) as seen:
        loss = model.losses(texts, LABELS).sum()
    seen.backward(loss)
    norms = torch.stack([torch.stack([g.norm() for g in one.values()]).norm() for one in expected])
    assert norms.min() > 0.01
    torch.testing.assert_close(seen.norms(), norms, rtol=1e-3, atol=1e-4)
    factors = torch.tensor([0.5, 0.0, 1.0, 0.25, 2.0])
    sums = seen.sums(factors)
    assert set(sums) == {p for one in expected for p in one}
    largest = max(float(value.abs().max()) for value in sums.values())
    for parameter, value in sums.items():
        wanted = sum(f * one[parameter] for f, one in zip(factors, expected, strict=True) if parameter in one)
        torch.testing.assert_close(value, wanted, rtol=1e-3, atol=1e-5 * max(1.0, largest))
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("pool", ["pooled", "first", "mean"])
def test_pools(pool: str) -> None:
    check(Classifier(pool=pool))


@pytest.mark.parametrize("model_type", ["roberta", "distilbert", "electra"])
def test_types_of_encoders(model_type: str) -> None:
    check(Classifier(model_type))


def test_adapters_and_frozen_weights() -> None:
    model = Classifier()
    config = peft.LoraConfig(r=2, target_modules="all-linear")
    found = model.encoder.add_adapters(settings_of(config), torch.Generator())
    model.requires_grad_(False)
    for parameter in (*found.parameters, *model.head.parameters()):
        parameter.requires_grad_(True)
        with torch.no_grad():
            parameter.add_(0.1 * torch.randn_like(parameter))
    check(model)


def test_filler_counts_for_nothing() -> None:
    """In bfloat16 a batch is made up to 64 rows."""
    model, texts = Classifier(), batch(LENGTHS)
    norms = []
    for precise in (True, False):
        with (
            torch.autocast("cpu", torch.bfloat16, enabled=not precise),
            SequenceGradients(model, texts.lengths) as seen,
        ):
            loss = model.losses(texts, LABELS).float().sum()
        seen.backward(loss)
        norms.append(seen.norms())
    torch.testing.assert_close(norms[1], norms[0], rtol=0.05, atol=0.05)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.scale = nn.Linear(2, 2), nn.Parameter(torch.ones(2))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Scaled(), "the model is a Scaled with trained parameters of its own"),
        (
            nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False)),
            "1 is a BatchNorm1d, in which sequences",
        ),
    ],
)
def test_layers_that_are_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceGradients(model, torch.tensor([1]))


def test_a_parameter_of_two_layers_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    with pytest.raises(ValueError, match="0 and 1 share a trained parameter"):
        SequenceGradients(model, torch.tensor([1]))


def test_a_layer_that_is_used_twice_is_refused() -> None:
    model, texts = Classifier("albert"), batch(LENGTHS)
    with SequenceGradients(model, texts.lengths) as seen:
        loss = model.losses(texts, LABELS).sum()
    with pytest.raises(ValueError, match="is used more than once"):
        seen.backward(loss)


def test_padded_tensors_are_refused() -> None:
    model, texts = Classifier(padding_free=False), batch(LENGTHS)
    with SequenceGradients(model, texts.lengths) as seen:
        loss = model.losses(texts, LABELS).sum()
    seen.backward(loss)
    with pytest.raises(ValueError, match=r"a layer works on \(5, 13\) rows, which are neither the 36 tokens"):
        seen.norms()

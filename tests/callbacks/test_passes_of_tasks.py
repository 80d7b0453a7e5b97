"""The strategies that compute gradients of their own, on the tasks that people train: pretraining, padded models."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bertlab.callbacks.adversarial_weights import AdversarialWeights
from bertlab.callbacks.fast_gradient import FastGradient
from bertlab.callbacks.free_lb import FreeLB
from bertlab.callbacks.sharpness_aware import SharpnessAware
from bertlab.callbacks.step_seed import StepSeed
from bertlab.callbacks.strategy import Strategy
from bertlab.encoders.encoder import Encoder
from bertlab.schedules.constant import Constant
from tests.encoders.tiny import transformer
from tests.ranks import on_two_ranks
from tests.tasks import tiny, tiny_pretraining

Make = Callable[[], Strategy]
MAKERS: list[Make] = [
    SharpnessAware,
    lambda: SharpnessAware(adaptive=True),
    AdversarialWeights,
    FastGradient,
    lambda: FreeLB(noise=0.0),
]
NAMES = ["sam", "asam", "awp", "fgm", "freelb"]
SGD: dict[str, Any] = {"optimizer": lambda params: torch.optim.SGD(params, lr=0.05), "schedule": Constant()}


def pretrain(objective: str, make: Make | None, root: Path, **trainer: Any) -> dict[str, Tensor]:
    """Weights after one epoch of 4 steps, without dropout."""
    task = tiny_pretraining.tiny_task(objective, **SGD)
    for module in task.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    splits = trainer.get("accumulate_grad_batches", 1) * trainer.get("devices", 1)
    data = tiny_pretraining.TinyData(rows=128, splits=splits)
    fitted = tiny.tiny_trainer(root, callbacks=[StepSeed(0), *([make()] if make else [])], **trainer)
    torch.manual_seed(2)  # the heads are made in fit
    fitted.fit(task, datamodule=data)
    return {name: value.detach().clone() for name, value in task.state_dict().items()}


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.mark.parametrize("make", MAKERS, ids=NAMES)
@pytest.mark.parametrize("objective", ["mlm", "mlm_nsp", "replaced_tokens"])
def test_pretraining(objective: str, make: Make, tmp_path: Path) -> None:
    plain, found = pretrain(objective, None, tmp_path), pretrain(objective, make, tmp_path)
    assert all(value.isfinite().all() for value in found.values())
    assert apart(found, plain) > 1e-5
    if make().depends_on_split and not isinstance(make(), FreeLB):
        return
    split = pretrain(objective, make, tmp_path, accumulate_grad_batches=4)
    for name, value in found.items():
        torch.testing.assert_close(split[name], value, rtol=1e-3, atol=1e-5, msg=name)


def on_a_rank(root: Path) -> list[dict[str, Tensor]]:
    ranks: dict[str, Any] = {"devices": 2, "strategy": "ddp"}
    return [pretrain("replaced_tokens", make, root, **ranks) for make in MAKERS]


def test_two_ranks(tmp_path: Path) -> None:
    """Equal to each other, and to two micro-batches of one rank, each of which moves weights for itself."""
    ranks = on_two_ranks(on_a_rank, tmp_path, tmp_path)
    for one, other, make in zip(*ranks, MAKERS, strict=True):
        assert apart(one, other) == 0
        alone = pretrain("replaced_tokens", make, tmp_path, accumulate_grad_batches=2)
        for name, value in alone.items():
            torch.testing.assert_close(one[name], value, rtol=1e-3, atol=1e-5, msg=f"{name} of {make}")


def classify(encoder: Encoder, make: Make, root: Path, **trainer: Any) -> dict[str, Tensor]:
    task = tiny.tiny_task(encoder=encoder, label_names=["ham", "spam", "news"], **SGD)
    fitted = tiny.tiny_trainer(root, callbacks=[StepSeed(0), make()], **trainer)
    torch.manual_seed(2)
    fitted.fit(task, datamodule=tiny.TinyData())
    return {name: value.detach().clone() for name, value in task.state_dict().items()}


@pytest.mark.parametrize("make", MAKERS, ids=NAMES)
def test_padding_changes_nothing(make: Make, tmp_path: Path) -> None:
    """Models that run on padded tensors (DeBERTa) are moved as packed ones, and padding never is."""
    model = transformer("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    packed = classify(Encoder(copy.deepcopy(model)), make, tmp_path)
    padded = classify(Encoder(model, padding_free=False), make, tmp_path)
    assert packed.keys() == padded.keys()
    for name, value in packed.items():
        torch.testing.assert_close(padded[name], value, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("make", MAKERS, ids=NAMES)
@pytest.mark.parametrize("model_type", ["deberta-v2", "modernbert"])
def test_models_of_other_kinds(model_type: str, make: Make, precision: str, tmp_path: Path) -> None:
    encoder = Encoder(transformer(model_type))
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    found = classify(encoder, make, tmp_path, precision=precision)
    assert all(value.isfinite().all() for value in found.values())
    assert apart({name: found[f"encoder.{name}"] for name in before}, before) > 1e-3

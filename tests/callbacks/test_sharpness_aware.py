"""Against the papers' algorithms in plain PyTorch, and what the strategy refuses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from bertlab.callbacks.sharpness_aware import SharpnessAware
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.unfreezing_plans import Stage
from bertlab.interfaces import TextBatch
from tests.callbacks.plain_bert import PlainBert, compare
from tests.callbacks.tiny import Timeline, TinyTask, fit

HEAD = [Stage(train=["head"])]


def at_the_neighbour(model: PlainBert, batch: TextBatch, steps: list[Tensor]) -> list[Tensor]:
    """The gradient there; the weights are as they were afterwards."""
    kept = [p.detach().clone() for p in model.parameters()]
    with torch.no_grad():
        for parameter, step in zip(model.parameters(), steps, strict=True):
            parameter.add_(step)
    found = model.gradients(model.losses(batch).mean())
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), kept, strict=True):
            parameter.copy_(value)
    return found


def sam(rho: float) -> Any:
    def gradient(model: PlainBert, batch: TextBatch, step: int, part: int) -> list[Tensor]:
        first = model.gradients(model.losses(batch).mean())
        norm = torch.cat([g.flatten() for g in first]).norm()
        return at_the_neighbour(model, batch, [rho * g / norm for g in first])

    return gradient


def asam(rho: float, eta: float) -> Any:
    def gradient(model: PlainBert, batch: TextBatch, step: int, part: int) -> list[Tensor]:
        first = model.gradients(model.losses(batch).mean())
        scales = [
            p.detach().abs() + eta if name.endswith(".weight") else torch.ones_like(p)
            for name, p in model.named_parameters()
        ]
        norm = sum((t * g).square().sum() for t, g in zip(scales, first, strict=True)).sqrt()
        return at_the_neighbour(
            model, batch, [rho * t**2 * g / norm for t, g in zip(scales, first, strict=True)]
        )

    return gradient


@pytest.mark.parametrize("parts", [1, 2])
def test_sam(parts: int, tmp_path: Path) -> None:
    """Of two micro-batches each has a neighbour of its own (m-sharpness)."""
    compare(SharpnessAware(rho=0.3), sam(0.3), tmp_path, parts)


@pytest.mark.parametrize("parts", [1, 2])
def test_adaptive_sam(parts: int, tmp_path: Path) -> None:
    compare(SharpnessAware(rho=0.7, adaptive=True, eta=0.05), asam(0.7, 0.05), tmp_path, parts)


def test_the_defaults_are_the_papers(tmp_path: Path) -> None:
    compare(SharpnessAware(), sam(0.05), tmp_path)
    compare(SharpnessAware(adaptive=True), asam(0.5, 0.01), tmp_path)


def test_it_begins_when_it_is_told(tmp_path: Path) -> None:
    timeline = Timeline()
    plain, _ = fit([], tmp_path, epochs=1)
    late, _ = fit([SharpnessAware(start_fraction=0.5)], tmp_path, callbacks=(timeline,), epochs=1)
    whole, _ = fit([SharpnessAware()], tmp_path, epochs=1)
    assert late.losses[:3] == plain.losses[:3]
    assert late.losses[3] > plain.losses[3]  # at the worst neighbour of the same weights
    assert whole.losses[0] > plain.losses[0]
    assert (3, "SharpnessAware", "stage", {"stage": 1, "ends_at_step": 6}) in timeline.events


def test_frozen_weights_do_not_move(tmp_path: Path) -> None:
    """The neighbourhood is that of the trained weights alone."""
    seen: list[float] = []

    class Frozen(TinyTask):
        def training_loss(self, batch: Any) -> Tensor:
            seen.append(float(self.layers[0][0].weight.detach().sum()))
            return super().training_loss(batch)

    fit([SharpnessAware(rho=1.0), StagedUnfreezing(stages=HEAD)], tmp_path, task=Frozen(), epochs=1)
    assert len(seen) == 12
    assert len(set(seen)) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rho": 0.0}, "SharpnessAware.rho takes a number above 0, got 0.0"),
        ({"rho": float("nan")}, "SharpnessAware.rho takes a number above 0, got nan"),
        ({"eta": -1.0}, "SharpnessAware.eta takes a number of 0 or more, got -1.0"),
        ({"start_fraction": 1.0}, r"start_fraction takes a fraction of training in \[0, 1\), got 1.0"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SharpnessAware(**arguments)


def test_weights_in_half_precision_are_refused() -> None:
    trainer: Any = SimpleNamespace(precision="bf16-true")
    with pytest.raises(ValueError, match=r"less than a rounding of trainer\.precision bf16-true: use"):
        SharpnessAware().prepare(trainer, None, None)  # type: ignore[arg-type]

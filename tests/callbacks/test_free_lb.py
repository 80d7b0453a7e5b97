"""Against algorithm 1 of the paper in plain PyTorch, and what the strategy refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bertlab.callbacks.free_lb import FreeLB
from bertlab.callbacks.step_seed import step_seed
from bertlab.interfaces import TextBatch
from tests.callbacks.plain_bert import PlainBert, compare
from tests.callbacks.tiny import TinyTask, fit


def first_noise(batch: TextBatch, real: Tensor, width: int, step: int, part: int, magnitude: float) -> Tensor:
    """U(-ε, ε) / √N_δ for each text, drawn as the strategy draws it."""
    torch.manual_seed(step_seed(0, 0, step, part))
    seed = int(torch.randint(2**62, ()))
    drawn = torch.empty(len(batch.input_ids), width, dtype=torch.float64)
    drawn.uniform_(-magnitude, magnitude, generator=torch.Generator().manual_seed(seed))
    noise = torch.zeros(*real.shape, width, dtype=torch.float64)
    noise[real] = drawn
    return noise / (batch.lengths * width).double().sqrt()[:, None, None]


def free_lb(k: int, alpha: float, epsilon: float, magnitude: float) -> Any:
    def gradient(model: PlainBert, batch: TextBatch, step: int, part: int) -> list[Tensor]:
        vectors, real = model.word_vectors(batch)
        delta = first_noise(batch, real, vectors.shape[2], step, part, magnitude)
        total = [torch.zeros_like(p) for p in model.parameters()]
        for _ in range(k):
            delta = delta.detach().requires_grad_()
            loss = model.losses(batch, delta).mean() / k
            slope, *found = torch.autograd.grad(loss, [delta, *model.parameters()])
            total = [sum_ + each for sum_, each in zip(total, found, strict=True)]
            slope = slope * real[:, :, None]
            moved = [d + alpha * g / g.norm() for d, g in zip(delta.detach(), slope, strict=True)]
            delta = torch.stack([d if d.norm() <= epsilon else d * epsilon / d.norm() for d in moved])
        return total

    return gradient


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize(
    ("k", "alpha", "epsilon", "noise"),
    [(3, 0.1, 0.3, None), (2, 0.4, 0.2, 0.0), (4, 0.3, 0.5, 1.0)],
    ids=["paper", "projected", "noisy"],
)
def test_algorithm_1(
    k: int, alpha: float, epsilon: float, noise: float | None, parts: int, tmp_path: Path
) -> None:
    magnitude = epsilon if noise is None else noise
    strategy = FreeLB(ascent_steps=k, step_size=alpha, epsilon=epsilon, noise=noise)
    compare(strategy, free_lb(k, alpha, epsilon, magnitude), tmp_path, parts)


def test_as_many_passes_as_steps(tmp_path: Path) -> None:
    passes: list[int] = []

    class Counting(TinyTask):
        def training_loss(self, batch: Any) -> Tensor:
            passes.append(self.trainer.global_step)
            return super().training_loss(batch)

    fit([FreeLB(ascent_steps=5)], tmp_path, task=Counting(), epochs=1)
    assert passes == [step for step in range(6) for _ in range(5)]


def test_the_loss_is_the_mean_along_the_ascent(tmp_path: Path) -> None:
    plain, _ = fit([], tmp_path, epochs=1, task=TinyTask(dropout=0.0))
    gentle = FreeLB(ascent_steps=2, step_size=1e-7, epsilon=1e-6)
    same, _ = fit([gentle], tmp_path, epochs=1, task=TinyTask(dropout=0.0))
    assert same.losses == pytest.approx(plain.losses, rel=1e-3)
    moved, _ = fit([FreeLB(ascent_steps=2, epsilon=1.0, step_size=1.0, noise=0.0)], tmp_path, epochs=1,
                   task=TinyTask(dropout=0.0))  # fmt: skip
    assert moved.losses[0] > plain.losses[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ascent_steps": 1}, r"FreeLB.ascent_steps takes 2 or more \(1 would be noise alone\), got 1"),
        ({"step_size": 0.0}, "FreeLB.step_size takes a number above 0, got 0.0"),
        ({"epsilon": float("nan")}, "FreeLB.epsilon takes a number above 0, got nan"),
        ({"noise": -0.1}, "FreeLB.noise takes a number of 0 or more, got -0.1"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FreeLB(**arguments)

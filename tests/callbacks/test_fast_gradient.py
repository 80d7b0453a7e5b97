"""Against the paper's algorithm in plain PyTorch, however a step is split, and what the strategy refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from bertlab.callbacks.combination import check_platform
from bertlab.callbacks.fast_gradient import FastGradient
from bertlab.callbacks.free_lb import FreeLB
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.unfreezing_plans import Stage
from bertlab.interfaces import Block, TextBatch
from tests.callbacks.plain_bert import PlainBert, compare
from tests.callbacks.tiny import TinyTask, fit


def fgm(epsilon: float, weight: float) -> Any:
    def gradient(model: PlainBert, batch: TextBatch, step: int, part: int) -> list[Tensor]:
        vectors, real = model.word_vectors(batch)
        change = torch.zeros_like(vectors, requires_grad=True)
        # Each text by itself: the direction does not follow the batch that it stands in.
        (slope,) = torch.autograd.grad(model.losses(batch, change).sum(), change)
        slope = slope * real[:, :, None]
        moved = torch.stack([epsilon * each / each.norm() for each in slope])
        return model.gradients(model.losses(batch).mean() + weight * model.losses(batch, moved).mean())

    return gradient


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize(("epsilon", "weight"), [(1.0, 1.0), (0.2, 0.5)])
def test_fgm(epsilon: float, weight: float, parts: int, tmp_path: Path) -> None:
    compare(FastGradient(epsilon=epsilon, weight=weight), fgm(epsilon, weight), tmp_path, parts)


def test_micro_batches_give_what_one_batch_gives(tmp_path: Path) -> None:
    one, _ = compare(FastGradient(epsilon=0.5), fgm(0.5, 1.0), tmp_path)
    split, _ = compare(FastGradient(epsilon=0.5), fgm(0.5, 1.0), tmp_path, parts=4)
    for whole, parts in zip(one.parameters(), split.parameters(), strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-9, atol=1e-12)


def test_the_loss_is_the_sum_of_both(tmp_path: Path) -> None:
    plain, _ = fit([], tmp_path, epochs=1, task=TinyTask(dropout=0.0))
    both, _ = fit([FastGradient(weight=0.5)], tmp_path, epochs=1, task=TinyTask(dropout=0.0))
    assert both.losses[0] > 1.5 * plain.losses[0]  # the adversarial loss is the greater one


def test_word_vectors_can_be_moved_where_the_table_is_frozen(tmp_path: Path) -> None:
    stages = [Stage(train=["head"])]
    plain, _ = fit([StagedUnfreezing(stages=stages)], tmp_path, epochs=1)
    moved, _ = fit([StagedUnfreezing(stages=stages), FastGradient()], tmp_path, epochs=1)
    assert torch.equal(plain.embeddings[0].weight, moved.embeddings[0].weight)
    assert moved.losses[0] > 2 * plain.losses[0]


@pytest.mark.parametrize("strategies", [[FastGradient(), FreeLB()], [FreeLB(), FastGradient()]])
def test_two_adversaries_of_word_vectors_are_refused(strategies: list[Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="FastGradient and FreeLB both claim 'word_vectors'"):
        fit(strategies, tmp_path)


class Pixels(LightningModule):
    """Has all that a strategy may ask of a task but word vectors."""

    def blocks(self) -> list[Block]:
        return []

    encoder_blocks = blocks

    def training_loss(self, batch: Any) -> Tensor:
        return torch.zeros(())


def test_a_task_without_word_vectors() -> None:
    with pytest.raises(TypeError, match="FastGradient moves word vectors, and Pixels has no word_embedding"):
        check_platform([FastGradient()], Trainer(accelerator="cpu", logger=False), Pixels())


def test_a_loss_that_does_not_look_at_word_vectors(tmp_path: Path) -> None:
    class Elsewhere(TinyTask):
        def training_loss(self, batch: Any) -> Tensor:
            return self.head(torch.ones(1, 8)).square().mean()

    with pytest.raises(ValueError, match="does not look at the output of the task's word_embedding"):
        fit([FastGradient()], tmp_path, task=Elsewhere())


@pytest.mark.parametrize("strategy", [FastGradient(), FreeLB()])
def test_a_loss_that_does_not_depend_on_word_vectors(strategy: Any, tmp_path: Path) -> None:
    class Detached(TinyTask):
        def forward(self, x: Tensor, *_: Any) -> Tensor:
            return self.head(self.embeddings(x).detach())

    with pytest.raises(ValueError, match=f"{type(strategy).__name__}: the training loss does not depend on"):
        fit([strategy], tmp_path, task=Detached())


@pytest.mark.parametrize("name", ["epsilon", "weight"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_arguments_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"FastGradient.{name} takes a number above 0, got {value}"):
        FastGradient(**{name: value})

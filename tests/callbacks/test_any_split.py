"""Strategies on a BERT do the same for one batch, for micro-batches and for two ranks: one start of two processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from bertlab.callbacks.auto_freeze import AutoFreeze
from bertlab.callbacks.cost_weighted_loss import CostWeightedLoss
from bertlab.callbacks.layer_drop import LayerDrop
from bertlab.callbacks.r_drop import RDrop
from bertlab.callbacks.step_seed import StepSeed
from bertlab.callbacks.strategy import Strategy
from tests.callbacks.real import information
from tests.ranks import on_two_ranks
from tests.tasks.tiny import TinyData, tiny_task, tiny_trainer


class CountedData(TinyData):
    def class_counts(self) -> torch.Tensor:
        return self.classes_of_rows.bincount(minlength=3)


def train(root: Path, strategies: list[Strategy], splits: int, ranks: int) -> dict[str, torch.Tensor]:
    """Weights after two epochs; momentum moves what has a gradient of zero, and leaves alone what has none."""
    trainer = tiny_trainer(
        root,
        callbacks=[StepSeed(0), *strategies],
        accumulate_grad_batches=splits // ranks,
        devices=ranks,
        max_epochs=2,
        **({"strategy": "ddp"} if ranks > 1 else {}),
    )
    task = tiny_task(optimizer=lambda p: torch.optim.SGD(p, lr=0.2, momentum=0.9, weight_decay=0.01))
    trainer.fit(task, datamodule=CountedData(rows=93, splits=splits))
    return {name: value.detach().clone() for name, value in task.named_parameters()}


def everything(root: Path, splits: int, ranks: int) -> dict[str, Any]:
    costs = {"ham": 1.0, "spam": 3.0, "news": 0.2}
    freezing = AutoFreeze(0.15, 90)
    return {
        "left out": train(root, [LayerDrop(0.5)], splits, ranks),
        # Passes differ by the layers that are left out, which are the same for any split of a step.
        "two passes": train(
            root, [RDrop(5.0), LayerDrop(0.4), CostWeightedLoss("costs", costs)], splits, ranks
        ),
        "frozen": train(root, [freezing], splits, ranks),
        "settled": freezing.trigger.state_dict(),
        "information": dict(enumerate(information(root, splits, ranks))),
    }


def test_one_batch_micro_batches_and_two_ranks(tmp_path: Path) -> None:
    whole, split = everything(tmp_path, 1, 1), everything(tmp_path, 4, 1)
    first, second = on_two_ranks(everything, tmp_path, tmp_path, 4, 2)
    assert whole["settled"]["starts"]
    for found in (split, first, second):
        for what in ("starts", "settled"):
            assert found["settled"][what] == whole["settled"][what]
        for part in ("left out", "two passes", "frozen", "information"):
            for name, value in whole[part].items():
                close = {"rtol": 2e-3, "atol": 1e-5 if part != "information" else 1e-9}
                torch.testing.assert_close(found[part][name], value, **close, msg=f"{part} {name}")
    for part in ("left out", "two passes", "frozen", "information"):
        assert all(torch.equal(value, second[part][name]) for name, value in first[part].items()), part

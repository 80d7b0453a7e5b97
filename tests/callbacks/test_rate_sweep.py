"""The sweep's rates on every group, and which callbacks stay in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping

from bertlab.callbacks.bit_fit import BitFit
from bertlab.callbacks.cost_weighted_loss import CostWeightedLoss
from bertlab.callbacks.exponential_average import ExponentialAverage
from bertlab.callbacks.lr_restarts import LrRestarts
from bertlab.callbacks.rate_sweep import RateSweep
from bertlab.callbacks.reinit_top_layers import ReinitTopLayers
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.optimizers.parameter_groups import build_optimizer, parameter_groups
from bertlab.schedules.range_test import RangeTest
from tests.callbacks.tiny import StepLog, TinyTask, fit


class LayeredTask(TinyTask):
    """The tiny task with layer decay, a base rate of its own, and a scheduler that would move rates."""

    def configure_optimizers(self) -> Any:
        groups = parameter_groups(self.blocks(), weight_decay=0.1, layer_decay=0.5)
        optimizer = build_optimizer(lambda g: torch.optim.AdamW(g, lr=3.0), groups)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.1**step)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_all_groups_are_scaled_by_one_factor(accumulate: int, tmp_path: Path) -> None:
    test = RangeTest(1e-4, 1e-2, steps=10, divergence=100.0)
    sweep, log = RateSweep(test), StepLog()
    trained, _ = fit(
        [], tmp_path, task=LayeredTask(), callbacks=(sweep, log), epochs=8, accumulate_grad_batches=accumulate
    )
    assert len(log.steps) == 10
    for step, held in enumerate(log.steps):
        depths = {block.name: block.depth for block in trained.blocks()}
        wanted = {name: test.rate(step) * 0.5**depth for name, depth in depths.items()}
        assert held["lr"] == pytest.approx(wanted)
    micro = [trained.losses[i : i + accumulate] for i in range(0, 10 * accumulate, accumulate)]
    assert sweep.losses == pytest.approx([sum(step) / accumulate for step in micro])


def test_what_does_not_bend_the_curve_stays() -> None:
    staying = [CostWeightedLoss(), ReinitTopLayers(), BitFit()]
    leaving = [StagedUnfreezing(), LrRestarts(cycle_steps=3), ExponentialAverage(), EarlyStopping("val/loss")]
    kept, left_out = RateSweep.undisturbed([*leaving[:2], *staying, *leaving[2:]])
    assert kept == staying
    assert left_out == ["StagedUnfreezing", "LrRestarts", "ExponentialAverage", "EarlyStopping"]

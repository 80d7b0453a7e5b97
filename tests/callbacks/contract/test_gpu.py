"""Every strategy on a GPU: what it keeps lies where the weights are; killed and resumed is never killed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from bertlab.callbacks.strategy import Strategy
from tests.bits import assert_equal
from tests.callbacks.contract.fragments import FRAGMENTS, NAMES, SaveAfter, run, strategy, with_work
from tests.callbacks.contract.grounds import ON_TEXTS
from tests.callbacks.contract.pairs import CLIP
from tests.callbacks.tiny_bert import Seen, bert_task, fit_bert

pytestmark = pytest.mark.gpu


#: They score by gradients, which may be infinite there. What computes gradients of its own is refused too.
REFUSED_IN_16_MIXED = {"adaptive_rank_adapters", "child_tuning_task_driven"}


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("fragment", FRAGMENTS, ids=NAMES)
def test_killed_and_resumed_is_never_killed(fragment: Path, precision: str, tmp_path: Path) -> None:
    common: dict[str, Any] = {
        "accelerator": "gpu",
        "precision": precision,
        "gradient_clip_val": CLIP,
        "enable_checkpointing": True,
    }
    refused = fragment.stem in REFUSED_IN_16_MIXED or "passes" in strategy(fragment).touches
    if precision == "16-mixed" and refused:
        with pytest.raises(TypeError, match=r"16-mixed.*use bf16-mixed"):
            run([strategy(fragment)], tmp_path, **common)
        return
    whole = run([strategy(fragment)], tmp_path, callbacks=(SaveAfter(tmp_path, {10}),), **common)
    assert next(whole[0].parameters()).isfinite().all()
    resumed = run([strategy(fragment)], tmp_path, ckpt_path=tmp_path / "step=10.ckpt", **common)
    assert_equal(resumed[1], whole[1][10:], "steps")
    assert_equal(dict(resumed[0].state_dict()), dict(whole[0].state_dict()), "weights")
    assert_equal(resumed[3], whole[3], "optimizer")


def losses(strategies: list[Strategy], root: Path, project: Path, compiled: bool) -> Seen:
    task = bert_task(project)
    if compiled:
        task.compile_layers()
    seen = fit_bert(
        with_work(strategies),
        root,
        project,
        task=task,
        accelerator="gpu",
        precision="bf16-mixed",
        max_epochs=2,
    )[1]
    assert all(math.isfinite(loss) for loss in seen.losses)
    return seen


@pytest.mark.parametrize("fragment", ON_TEXTS, ids=[fragment.stem for fragment in ON_TEXTS])
def test_a_bert_is_trained(fragment: Path, project: Path, tmp_path: Path) -> None:
    seen = losses([strategy(fragment)], tmp_path, project, compiled=False)
    assert seen.validations


def test_a_compiled_bert_learns_as_much(project: Path, tmp_path: Path) -> None:
    torch.compiler.reset()
    plain, compiled = (losses([], tmp_path, project, compiled=value) for value in (False, True))
    assert compiled.losses[0] == pytest.approx(plain.losses[0], abs=0.1)  # other masks of dropout
    assert compiled.validations[-1]["val/loss"] == pytest.approx(plain.validations[-1]["val/loss"], abs=0.15)

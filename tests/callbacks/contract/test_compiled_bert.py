"""Every strategy trains a BERT whose layers are compiled, as `run.compile` has them, as it trains the BERT itself.

The backend is dynamo's capture alone ("eager"): what a strategy can break is the capture, with weights put in the place
of others, hooks, parts that freeze and thaw, layers that are left out.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bertlab.encoders.pretrained import PretrainedEncoder
from tests.callbacks.contract.fragments import strategy, with_work
from tests.callbacks.contract.grounds import ON_TEXTS
from tests.callbacks.contract.test_compiled import Counted
from tests.callbacks.tiny_bert import bert_task, fit_bert

#: Why not: `run.compile` refuses it, since compiled layers have no values to look at within.
REFUSED = "PrivateTraining"
COMPILED = [fragment for fragment in ON_TEXTS if type(strategy(fragment)).__name__ != REFUSED]


@pytest.mark.parametrize("fragment", COMPILED, ids=[fragment.stem for fragment in COMPILED])
def test_it_learns_the_same(fragment: Path, project: Path, tmp_path: Path) -> None:
    torch.compiler.reset()
    backend, losses, weights = Counted(), [], []
    for compiled in (False, True):
        # Masks of dropout are drawn otherwise in what is compiled.
        task = bert_task(project, encoder=PretrainedEncoder(str(project / "model"), 0.0, 0.0), dropout=0.0)
        if compiled:
            task.compile_layers(backend)
        with torch._dynamo.config.patch(recompile_limit=64, fail_on_recompile_limit_hit=True):
            _, seen = fit_bert(with_work([strategy(fragment)]), tmp_path, project, task=task, max_epochs=2)
        losses.append(seen.losses)
        weights.append(dict(task.state_dict()))
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert len(losses[1]) == len(losses[0]) >= 12
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-2, atol=1e-4, msg=name)
    assert backend.runs >= len(losses[1])  # a layer at least in each step

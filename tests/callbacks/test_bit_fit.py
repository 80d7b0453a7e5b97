from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch.utils.flop_counter import FlopCounterMode

from bertlab.callbacks.bit_fit import BitFit, biases
from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.step_seed import StepSeed
from bertlab.callbacks.unfreezing_plans import Stage
from bertlab.encoders.from_config import EncoderFromConfig
from tests.callbacks.real import Gradients, fit_bert
from tests.callbacks.tiny import StepLog, Timeline, TinyTask, fit
from tests.encoders.tiny import CONFIGS
from tests.tasks.tiny import tiny_encoder, tiny_task, tiny_trainer
from tests.tasks.tiny_pretraining import TinyData as PretrainingData
from tests.tasks.tiny_pretraining import tiny_task as pretraining_task


@pytest.mark.parametrize("model_type", CONFIGS)
def test_biases_and_head_move_and_nothing_else(model_type: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = CONFIGS[model_type] | {"vocab_size": 40}
    if model_type == "modernbert":
        config |= {"norm_bias": True, "attention_bias": True}
    encoder = EncoderFromConfig(model_type, config, dropout=0.0, attention_dropout=0.0)
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    task = tiny_task(encoder=encoder, pool="first")
    gradients = Gradients()
    fit_bert([BitFit()], tmp_path, task=task, callbacks=(gradients,))
    moved = {name for name, p in task.encoder.named_parameters() if not torch.equal(p, before[name])}
    expected = {name for name in before if name.endswith("bias") and not name.startswith("model.pooler")}
    # A bias of the keys adds the same to all scores of a query: its gradient is zero but for rounding.
    assert moved <= expected
    assert {name for name in expected - moved if "key" not in name and "k_lin" not in name} == set()
    graded = {name for name, value in gradients.steps[0].items() if value is not None}
    assert graded == {f"encoder.{name}" for name in expected} | {"head.output.weight", "head.output.bias"}


def test_what_is_trained_is_on_the_timeline(tmp_path: Path) -> None:
    timeline = Timeline()
    task, _ = fit([BitFit()], tmp_path, callbacks=(timeline,), epochs=1)
    encoder = [p for name, p in task.named_parameters() if not name.startswith("head")]
    event = next(facts for *_, what, facts in timeline.events if what == "biases")
    assert event == {
        "biases": 8 + 3 * (8 + 8),
        "head": 8 * 3 + 3,
        "encoder": sum(p.numel() for p in encoder),
    }


def test_dropout_is_on_in_all_blocks(tmp_path: Path) -> None:
    log = StepLog()
    task, _ = fit([BitFit()], tmp_path, callbacks=(log,), epochs=1)
    assert all(step["train_mode"] == [block.name for block in task.blocks()] for step in log.steps)


def test_biases_thaw_in_stages(tmp_path: Path) -> None:
    log = StepLog()
    stages = [Stage(["head"], until_step=4), Stage(["layer.2-head"], until_step=8), Stage(["all"])]
    start = TinyTask()
    fit([BitFit(), StagedUnfreezing(stages=stages)], tmp_path, callbacks=(log,), task=start)
    assert log.steps[0]["grads"] == ["head"]
    assert log.steps[4]["grads"] == log.steps[4]["train_mode"] == ["layer.2", "head"]
    assert log.steps[8]["grads"] == ["embeddings", "layer.0", "layer.1", "layer.2", "head"]
    assert torch.equal(start.layers[2][0].weight, TinyTask().layers[2][0].weight)
    assert not torch.equal(start.layers[2][0].bias, TinyTask().layers[2][0].bias)


def test_a_tied_decoder_is_the_encoders(tmp_path: Path) -> None:
    task = pretraining_task("mlm_nsp")
    words = task.encoder.word_embedding.weight.detach().clone()
    tiny_trainer(tmp_path, callbacks=[StepSeed(0), BitFit()], max_steps=3).fit(
        task, datamodule=PretrainingData()
    )
    assert torch.equal(task.encoder.word_embedding.weight, words)
    assert any(p is task.encoder.word_embedding.weight for p in task.blocks()[-1].parameters())


class Flops(Callback):
    """Floating point operations of the products of one step, forward and backward."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            self.counter = FlopCounterMode(display=False)
            self.counter.__enter__()

    def on_before_optimizer_step(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 0:
            self.counter.__exit__(None, None, None)


def test_weights_cost_no_backward(tmp_path: Path) -> None:
    """Of a packed layer's products a backward pass computes those for the hidden states alone."""
    counted = []
    for strategies in ([], [BitFit()]):
        flops = Flops()
        task = tiny_task(encoder=tiny_encoder(hidden_size=64, intermediate_size=256), pool="mean")
        assert any(type(module).__name__ == "PackedLayer" for module in task.modules())
        fit_bert(strategies, tmp_path, task=task, callbacks=(flops,), limit_train_batches=1)
        found = flops.counter.get_flop_counts()["Global"]
        counted.append(sum(n for op, n in found.items() if "bmm" not in str(op)))
    # Forward, backward to the states, backward to the weights: each a third; the attention's own products aside.
    assert counted[1] / counted[0] == pytest.approx(2 / 3, abs=0.03)


def test_an_encoder_without_biases(tmp_path: Path) -> None:
    encoder = EncoderFromConfig("modernbert", CONFIGS["modernbert"] | {"vocab_size": 40})
    assert biases(Blocks(encoder.blocks())) == []
    with pytest.raises(ValueError, match="BitFit trains the biases of the encoder, and this one has none"):
        fit_bert([BitFit()], tmp_path, task=tiny_task(encoder=encoder))


def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    class NoBias(TinyTask):
        def __init__(self) -> None:
            super().__init__()
            self.layers[0] = torch.nn.Sequential(torch.nn.Linear(8, 8, bias=False))

    stages = [Stage(["layer.0"], until_step=2), Stage(["all"])]
    with pytest.raises(
        ValueError,
        match=r"BitFit and StagedUnfreezing have nothing in common in stage 0.*the other trains \(layer.0\)",
    ):
        fit([BitFit(), StagedUnfreezing(stages=stages)], tmp_path, task=NoBias())


def test_biases_that_never_thaw_are_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="BitFit would do nothing.*frozen from start to end"):
        fit([BitFit(), StagedUnfreezing(stages=[Stage(["head"])])], tmp_path, epochs=1)

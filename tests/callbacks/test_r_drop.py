from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch.nn import functional

from bertlab.callbacks.mixout import Mixout
from bertlab.callbacks.r_drop import RDrop
from bertlab.callbacks.sharpness_aware import SharpnessAware
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.step_seed import StepSeed, step_seed
from bertlab.callbacks.unfreezing_plans import Stage
from bertlab.encoders.from_config import EncoderFromConfig
from tests.callbacks.real import Gradients, fit_bert
from tests.callbacks.tiny import TinyTask, fit
from tests.encoders.tiny import CONFIGS
from tests.tasks.tiny import TinyData, tiny_encoder, tiny_task, tiny_trainer
from tests.tasks.tiny_pretraining import TinyData as PretrainingData
from tests.tasks.tiny_pretraining import tiny_task as pretraining_task


class Losses(Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.seen.append(float(outputs["loss"]))


def noisy_task(problem: str = "single_label", p: float = 0.3) -> Any:
    encoder = tiny_encoder()
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = p
    return tiny_task(encoder=encoder, problem=problem, optimizer=lambda p: torch.optim.SGD(p, lr=0.0))


@pytest.mark.parametrize("problem", ["single_label", "multi_label", "regression"])
def test_loss_and_gradient_are_those_of_half_of_equation_4(problem: str, tmp_path: Path) -> None:
    """Computed again from two forwards with the same dropout, by torch's losses."""
    losses, gradients, alpha = Losses(), Gradients(), 3.0
    task, data = noisy_task(problem), TinyData(problem)
    fit_bert([RDrop(alpha)], tmp_path, task=task, data=data, callbacks=(losses, gradients))
    task.train()
    for number, batch in enumerate(task.trainer.train_dataloader):
        torch.manual_seed(step_seed(0, 0, number, 0))
        one, other = task(batch), task(batch)
        assert not torch.equal(one, other)
        if problem == "single_label":
            likelihood = functional.cross_entropy(one, batch.labels) + functional.cross_entropy(
                other, batch.labels
            )
            p, q = one.log_softmax(1), other.log_softmax(1)
            apart = functional.kl_div(q, p, reduction="batchmean", log_target=True)
            apart += functional.kl_div(p, q, reduction="batchmean", log_target=True)
        elif problem == "multi_label":
            bce = functional.binary_cross_entropy_with_logits
            likelihood = bce(one, batch.labels) + bce(other, batch.labels)
            pairs = [torch.distributions.Bernoulli(logits=logits) for logits in (one, other)]
            divergence = torch.distributions.kl_divergence
            apart = (divergence(*pairs) + divergence(*pairs[::-1])).mean()
        else:
            mse = functional.mse_loss
            likelihood = mse(one[:, 0], batch.labels) + mse(other[:, 0], batch.labels)
            apart = 2 * mse(one, other)
        expected = (likelihood + alpha * apart / 2) / 2
        assert losses.seen[number] == pytest.approx(expected.item(), rel=1e-4)
        task.zero_grad()
        expected.backward()
        for name, parameter in task.named_parameters():
            found = gradients.steps[number][name]
            torch.testing.assert_close(found, parameter.grad, rtol=1e-3, atol=1e-6, msg=name)


def test_words_with_tags() -> None:
    """Rows may be words: any number of them a sequence, normalised by those of the whole step."""

    class Batch:
        labels, step_labels, micro_batches = torch.arange(3), torch.arange(5), 2

    class Pass:
        batch, made = Batch(), 0
        outputs = torch.zeros(3, 2)

        def loss(self) -> torch.Tensor:
            self.made += 1
            self.outputs = torch.tensor([[0.75, 0.25]] * 3).log() if self.made == 1 else torch.zeros(3, 2)
            return torch.tensor(float(self.made))

    # Each word: ½·Σ (p − q)·(ln p − ln q) = ½·(¼·ln(¾/½) − ¼·ln(¼/½)) = ⅛·ln 3; three of five, in one of two parts.
    apart = torch.tensor(3.0).log() / 8 * 3 / 5 * 2
    expected = (1 + 2 + 4.0 * apart) / 2
    torch.testing.assert_close(RDrop(4.0)._two_passes(Pass()), expected)  # type: ignore[arg-type]


def test_a_task_without_labels(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, callbacks=[StepSeed(0), RDrop()])
    with pytest.raises(ValueError, match=r"RDrop compares the answers to rows with labels.*PretrainingBatch"):
        trainer.fit(pretraining_task(), datamodule=PretrainingData())


@pytest.mark.parametrize("alpha", [-1.0, float("inf")])
def test_a_weight_out_of_range(alpha: float) -> None:
    with pytest.raises(ValueError, match=rf"RDrop.alpha takes a number of 0 or more, got {alpha}"):
        RDrop(alpha)


def test_nothing_to_do_is_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="RDrop would do nothing in this training: alpha is 0"):
        fit([RDrop(0.0)], tmp_path, epochs=1)
    with pytest.warns(UserWarning, match="RDrop would do nothing in this training: all dropout is 0"):
        fit([RDrop()], tmp_path, epochs=1, task=TinyTask(dropout=0.0))
    with pytest.warns(UserWarning, match="RDrop would do nothing in this training: all dropout is 0"):
        fit([RDrop(), SharpnessAware()], tmp_path, epochs=1, task=TinyTask(dropout=0.0))  # around both passes


@pytest.mark.parametrize("frozen", [True, False])
def test_dropout_of_frozen_blocks_is_none(
    frozen: bool, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    stages = [Stage(["head" if frozen else "layer.2-head"])]
    fit([RDrop(), StagedUnfreezing(stages=stages)], tmp_path, epochs=1)  # the tiny head has no dropout
    said = [str(w.message) for w in recwarn if "RDrop would do nothing" in str(w.message)]
    assert len(said) == frozen


def test_what_acts_within_the_passes_makes_them_differ(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    fit([RDrop(), Mixout(0.5)], tmp_path, epochs=1, task=TinyTask(dropout=0.0))
    assert not [str(w.message) for w in recwarn if "would do nothing" in str(w.message)]


@pytest.mark.parametrize("model_type", CONFIGS)
def test_dropout_of_attention_alone_is_something(
    model_type: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    config = CONFIGS[model_type] | {"vocab_size": 40}
    encoder = EncoderFromConfig(model_type, config, dropout=0.0, attention_dropout=0.1)
    fit_bert([RDrop()], tmp_path, task=tiny_task(encoder=encoder, pool="first"), limit_train_batches=1)
    assert not [str(w.message) for w in recwarn if "would do nothing" in str(w.message)]

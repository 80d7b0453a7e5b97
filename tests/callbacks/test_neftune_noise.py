from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.neftune_noise import NeftuneNoise, with_noise
from bertlab.encoders.from_config import EncoderFromConfig
from tests.callbacks.real import fit_bert
from tests.callbacks.tiny import fit
from tests.encoders.tiny import CONFIGS
from tests.tasks.tiny import VOCABULARY, TinyData, tiny_encoder, tiny_task


def test_size_and_kind_of_the_noise() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([64, 16, 1])
    rows = torch.arange(3).repeat_interleave(lengths)
    vectors = torch.randn(81, 48)
    noise = with_noise(vectors, rows, alpha=5.0) - vectors
    for row, length in enumerate(lengths.tolist()):
        limit = 5.0 / math.sqrt(length * 48)
        own = noise[rows == row]
        assert own.abs().max() <= limit * 1.001
        assert own.abs().max() > limit * 0.9
    # A uniform distribution on ±a has the deviation a / √3.
    assert noise[rows == 0].std() == pytest.approx(5.0 / math.sqrt(64 * 48) / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize("model_type", ["bert", "deberta-v2"])  # packed, and padded
def test_words_of_a_bert_are_moved_by_the_length_of_their_own_text(model_type: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = CONFIGS[model_type] | {"vocab_size": VOCABULARY}
    encoder = EncoderFromConfig(model_type, config, dropout=0.0, attention_dropout=0.0)
    seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx > 0:
                return
            table = pl_module.word_embedding
            # What the normalisation after the sum of the embeddings takes, positions and segments being zero.
            self.plain = table.weight.detach().clone()
            norm = next(m for n, m in pl_module.named_modules() if n.endswith("embeddings.LayerNorm"))
            with torch.no_grad():
                for name, parameter in pl_module.named_parameters():
                    if "position_embeddings" in name or "token_type_embeddings" in name:
                        parameter.zero_()
            norm.register_forward_pre_hook(
                lambda _, args: seen.append((args[0].detach(), batch.input_ids, batch.lengths))
            )

    task = tiny_task(encoder=encoder, pool="first")
    watch = Watch()
    fit_bert([NeftuneNoise(3.0)], tmp_path, task=task, callbacks=(watch,), limit_train_batches=1)
    vectors, ids, lengths = seen[0]
    rows = torch.arange(len(lengths)).repeat_interleave(lengths)
    if vectors.shape[0] == 1:
        noise = vectors[0] - watch.plain[ids]
    else:
        real = torch.arange(int(lengths.max())) < lengths[:, None]
        noise = vectors[real] - watch.plain[ids]
        assert torch.equal(
            vectors[~real], watch.plain[[0]].expand_as(vectors[~real])
        )  # padding is left alone
    limits = 3.0 / (lengths[rows] * vectors.shape[-1]).sqrt()
    largest = noise.abs().max(1).values / limits
    assert largest.max() <= 1.001
    assert largest.min() > 0.5


def test_each_step_has_noise_of_its_own_and_validation_none(tmp_path: Path) -> None:
    losses = []
    for alpha in (0.0, 8.0, 8.0):
        task = tiny_task(encoder=tiny_encoder(), optimizer=lambda p: torch.optim.SGD(p, lr=0.0))
        seen: list[float] = []

        class Losses(Callback):
            def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
                seen.append(float(outputs["loss"]))  # noqa: B023

        fit_bert(
            [NeftuneNoise(alpha)] if alpha else [],
            tmp_path,
            task=task,
            data=TinyData(),
            callbacks=(Losses(),),
        )
        losses.append((seen, float(task.trainer.callback_metrics["val/loss"])))
    assert losses[1] == losses[2]
    assert all(plain != noisy for plain, noisy in zip(losses[0][0], losses[1][0], strict=True))
    assert losses[0][1] == losses[1][1]


@pytest.mark.parametrize("alpha", [-1.0, float("nan")])
def test_noise_out_of_range(alpha: float) -> None:
    with pytest.raises(ValueError, match=rf"NeftuneNoise.alpha takes a number of 0 or more, got {alpha}"):
        NeftuneNoise(alpha)


def test_a_task_without_word_vectors() -> None:
    trainer: Any = SimpleNamespace(lightning_module=torch.nn.Linear(2, 2))
    with pytest.raises(TypeError, match="NeftuneNoise moves word vectors, and Linear has no word_embedding"):
        NeftuneNoise().prepare(trainer, Blocks([]), Horizon(10, 5))


def test_no_noise_is_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="NeftuneNoise would do nothing in this training: alpha is 0"):
        fit([NeftuneNoise(0.0)], tmp_path, epochs=1)

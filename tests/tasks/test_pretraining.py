"""Pretraining under a Trainer: it learns, resumes, counts exactly, and says what does not fit."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.strategies import ModelParallelStrategy

from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.schedules.constant import Constant
from tests.doubles.small import KillAt, Killed
from tests.ranks import on_two_ranks
from tests.tasks.tiny import tiny_trainer
from tests.tasks.tiny_pretraining import VOCABULARY, Language, TinyData, tiny_encoder, tiny_task

#: Of each objective the data that it can be learnt from in a few hundred steps; a random B of four topics cannot be
#: told in one case of eight.
OBJECTIVES: dict[str, dict[str, Any]] = {
    "mlm_nsp": {"topics": 4, "apart": 0, "rows": 512},
    "mlm": {},
    "mlm_sop": {"topics": 5, "swap": True, "rows": 320},
    "replaced_tokens": {},
}


def unigram_loss(data: TinyData) -> float:
    """Mean cross entropy of the masked words of validation under their shares among those of training."""
    labels = torch.cat([row["labels"] for row in data.train.rows])
    shares = (labels.bincount(minlength=VOCABULARY) + 1).double()
    shares /= shares.sum()
    held = torch.cat([row["labels"] for row in data.val.rows])
    return float(-shares[held].log().mean())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_each_objective_learns(objective, tmp_path):
    data = TinyData(**OBJECTIVES[objective])
    task = tiny_task(objective, generator_fraction=1.0, discriminator_weight=10.0)
    trainer = tiny_trainer(tmp_path, max_epochs=25)
    (before,) = trainer.validate(task, datamodule=data, verbose=False)
    trainer.fit(task, datamodule=data)
    (after,) = trainer.validate(task, datamodule=data, verbose=False)
    assert after["val/loss"] < before["val/loss"]
    assert after["val/masked_loss"] < unigram_loss(data) - 0.5
    assert after["val/masked_accuracy"] > 0.3
    assert after["val/pseudo_perplexity"] == pytest.approx(math.exp(after["val/masked_loss"]), rel=1e-5)
    assert after["val/word_perplexity"] == pytest.approx(math.exp(after["val/masked_loss"] * 1.5), rel=1e-5)
    if objective == "replaced_tokens":
        assert after["val/replaced_loss"] < 0.9 * before["val/replaced_loss"]
        assert after["val/replaced_accuracy"] >= 1 - after["val/replaced_share"]
    assert ("val/sentence_accuracy" in after) == (objective in {"mlm_nsp", "mlm_sop"})
    if objective in {"mlm_nsp", "mlm_sop"}:
        assert after["val/sentence_accuracy"] > 0.7, "three standard deviations of 64 coins above 1/2"
        assert after["val/sentence_loss"] < 0.85 * math.log(2)


def weights(task: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in task.state_dict().items()}


@pytest.mark.parametrize("objective", ["mlm_nsp", "replaced_tokens"])
def test_resumed_ends_as_never_stopped(objective, tmp_path):
    def run(callbacks=(), ckpt_path=None):
        task, trainer = tiny_task(objective), tiny_trainer(tmp_path, max_epochs=3, callbacks=list(callbacks))
        trainer.fit(task, datamodule=TinyData(rows=64), ckpt_path=ckpt_path, weights_only=True)
        return weights(task)

    whole = run()
    with pytest.raises(Killed):
        run([SaveEachEpoch(), KillAt(4)])
    resumed = run(ckpt_path=tmp_path / "part.ckpt")
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


class SaveEachEpoch(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        trainer.save_checkpoint(Path(trainer.default_root_dir) / "part.ckpt")


def on_ranks(folder: Path, ranks: int, objective: str, **settings: Any) -> dict[str, Any]:
    """Metrics before training, then an epoch of four micro-batches a step."""
    trainer = tiny_trainer(folder, devices=ranks, accumulate_grad_batches=4 // ranks, **settings)
    task = tiny_task(objective, optimizer=lambda p: torch.optim.SGD(p, lr=0.1), discriminator_weight=5.0)
    data = TinyData(rows=96, splits=4)
    (before,) = trainer.validate(task, datamodule=data, verbose=False)
    trainer.fit(task, datamodule=data)
    path = folder / f"{ranks}-{objective}-{type(trainer.strategy).__name__}.ckpt"
    trainer.save_checkpoint(path)
    state = torch.load(path, weights_only=True)["state_dict"] if trainer.is_global_zero else {}
    return {"before": before, "weights": state}


def both_ranks(folder: Path) -> dict[str, Any]:
    fsdp = ModelParallelStrategy(2, 1, save_distributed_checkpoint=False)
    return {
        "mlm_nsp": on_ranks(folder, 2, "mlm_nsp", strategy="ddp"),
        "replaced_tokens": on_ranks(folder, 2, "replaced_tokens", strategy="ddp"),
        "fsdp": on_ranks(folder, 2, "mlm_nsp", strategy=fsdp),
    }


def test_two_ranks_are_as_one(tmp_path):
    first, second = on_two_ranks(both_ranks, tmp_path, tmp_path)
    for kind in ("mlm_nsp", "replaced_tokens", "fsdp"):
        one = on_ranks(tmp_path, 1, "mlm_nsp" if kind == "fsdp" else kind)
        assert first[kind]["before"] == second[kind]["before"] == one["before"]
        assert first[kind]["weights"].keys() == one["weights"].keys()
        for name, value in one["weights"].items():
            torch.testing.assert_close(first[kind]["weights"][name], value, rtol=1e-3, atol=1e-5)


def test_metrics_do_not_depend_on_batches(tmp_path):
    class OtherBatches(TinyData):
        def val_dataloader(self):
            parts = torch.arange(len(self.val.rows)).flip(0).split(7)
            return torch.utils.data.DataLoader([self.val.batch(part) for part in parts], batch_size=None)

    found = [
        tiny_trainer(tmp_path).validate(tiny_task(), datamodule=data, verbose=False)[0]
        for data in (TinyData(), OtherBatches())
    ]
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        assert found[1][name] == pytest.approx(value, rel=1e-6)


class Watch(Callback):
    """What is trained, and whether it moves."""

    def __init__(self) -> None:
        self.moved: list[dict[str, bool]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.before = {name: p.detach().clone() for name, p in pl_module.named_parameters()}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.moved.append(
            {name: not torch.equal(p, self.before[name]) for name, p in pl_module.named_parameters()}
        )


def test_frozen_embeddings_do_not_freeze_the_tied_decoder(tmp_path):
    watch = Watch()
    strategies = [StagedUnfreezing(plan="gradual", spread_fraction=0.8), watch]
    trainer = tiny_trainer(tmp_path, max_epochs=2, callbacks=strategies)
    trainer.fit(tiny_task("mlm_nsp", schedule=Constant()), datamodule=TinyData(rows=128))
    first, last = watch.moved[0], watch.moved[-1]
    table = "encoder.model.embeddings.word_embeddings.weight"
    assert first[table]
    assert first["head.masked_lm.decoder.bias"]
    assert not first["encoder.model.embeddings.position_embeddings.weight"]
    assert not any(moved for name, moved in first.items() if ".layer." in name)
    assert any(moved for name, moved in last.items() if ".layer." in name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"objective": "nsp"},
            "model.init_args.objective takes one of mlm_nsp, mlm, mlm_sop, replaced_tokens",
        ),
        ({"generator_fraction": 0.0}, r"generator_fraction takes a number in \(0, 1\], got 0.0"),
        ({"discriminator_weight": -1.0}, "discriminator_weight takes 0 or more, got -1.0"),
        ({"encoder": torch.nn.Linear(2, 2)}, "encoder takes a class of bertlab.encoders, got Linear"),
    ],
)
def test_arguments_that_are_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny_task(**arguments)


def test_data_that_does_not_fit(tmp_path):
    def fit(objective: str, data: TinyData, **arguments: Any) -> None:
        tiny_trainer(tmp_path).fit(tiny_task(objective, **arguments), datamodule=data)

    message = "objective 'mlm_sop' takes data with data.init_args.sentence_task 'sentence_order', got 'next_sentence'"
    with pytest.raises(ValueError, match=message):
        fit("mlm_sop", TinyData(rows=32))
    with pytest.raises(ValueError, match=r"the embedding of the encoder .* only 30 rows"):
        fit("mlm", TinyData(rows=32), encoder=tiny_encoder(vocab_size=30))


def test_batches_that_lack_something(tmp_path):
    task, language = tiny_task("mlm_nsp"), Language(8)
    task.head = task.build_head()
    batch = language.step(torch.arange(8))[0]
    with pytest.raises(ValueError, match="has a sentence task, and the data has no sentence labels"):
        task.heads.training_loss(task.encoder, replace(batch, sentence_labels=None), 0)
    with pytest.raises(ValueError, match="takes step_masked and step_sequences"):
        task.heads.training_loss(task.encoder, language.batch(torch.arange(8)), 0)
    with pytest.raises(RuntimeError, match="the head is not built"):
        _ = tiny_task().heads


def test_checkpoint_of_another_objective(tmp_path):
    trainer = tiny_trainer(tmp_path)
    trainer.fit(tiny_task("mlm"), datamodule=TinyData(rows=32))
    trainer.save_checkpoint(tmp_path / "mlm.ckpt")
    with pytest.raises(
        ValueError, match=r"is of the objective 'mlm', model.init_args.objective is 'mlm_nsp'"
    ):
        tiny_trainer(tmp_path).validate(
            tiny_task("mlm_nsp"), datamodule=TinyData(), ckpt_path=tmp_path / "mlm.ckpt", weights_only=True
        )

"""Checkpoints of a task: plain, safe, and refused where they do not fit."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from bertlab.tasks.sequence_classification import SequenceClassification
from tests.tasks.tiny import TinyData, tiny_encoder, tiny_task, tiny_trainer


class OtherTask(SequenceClassification):
    name = "OtherTask"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    trainer = tiny_trainer(folder)
    trainer.fit(tiny_task(), datamodule=TinyData())
    trainer.save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt"


def test_it_loads_without_running_code_and_says_what_it_is_of(checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    assert content["bertlab_task"] == "SequenceClassification"
    assert content["bertlab_problem"] == "single_label"
    assert content["bertlab_label_names"] == ["ham", "spam", "news"]


def test_a_fresh_task_tests_as_the_trained_one(checkpoint, tmp_path):
    trainer, data = tiny_trainer(tmp_path), TinyData()
    (first,) = trainer.test(
        tiny_task(), datamodule=data, ckpt_path=checkpoint, verbose=False, weights_only=True
    )
    (second,) = tiny_trainer(tmp_path).test(
        tiny_task(label_names=list(data.label_names)),
        datamodule=data,
        ckpt_path=checkpoint,
        verbose=False,
        weights_only=True,
    )
    assert first == second
    (untrained,) = tiny_trainer(tmp_path).test(tiny_task(), datamodule=data, verbose=False)
    assert untrained != first


def test_prediction_of_unlabelled_data_takes_the_labels_of_the_checkpoint(checkpoint, tmp_path):
    task = tiny_task()
    data = TinyData(label_names=None)
    (prediction,) = tiny_trainer(tmp_path).predict(
        task, datamodule=data, ckpt_path=checkpoint, weights_only=True
    )
    assert task.label_names == ("ham", "spam", "news")
    assert prediction["probabilities"].shape == (5, 3)
    assert prediction["probabilities"].sum(dim=1).tolist() == pytest.approx([1] * 5)


def test_prediction_without_labels_from_anywhere_is_refused(tmp_path):
    with pytest.raises(RuntimeError, match="neither data nor a checkpoint has told the labels"):
        tiny_trainer(tmp_path).predict(tiny_task(), datamodule=TinyData(label_names=None))


@pytest.mark.parametrize(
    ("task", "data", "message"),
    [
        (
            lambda: OtherTask(tiny_encoder()),
            {},
            "the checkpoint is of the task SequenceClassification, the model is OtherTask",
        ),
        (
            lambda: tiny_task(problem="multi_label"),
            {"problem": "multi_label"},
            "is of the problem 'single_label', model.init_args.problem is 'multi_label'",
        ),
        (
            lambda: tiny_task(problem="multi_label"),
            {},
            "data.init_args.problem is 'single_label', model.init_args.problem is 'multi_label'",
        ),
        (
            tiny_task,
            {"label_names": ("spam", "ham", "news")},
            r"labels \['ham', 'spam', 'news'\], in this order; the labels here are \['spam', 'ham', 'news'\]",
        ),
        (
            lambda: tiny_task(encoder=tiny_encoder(hidden_size=8)),
            {},
            r"encoder.model.embeddings.word_embeddings.weight is \(40, 16\) in the checkpoint and \(40, 8\) in ",
        ),
        (
            lambda: tiny_task(encoder=tiny_encoder(num_hidden_layers=1)),
            {},
            r"encoder.layer.1.attention.self.query.weight is \(16, 16\) in the checkpoint and missing in the model",
        ),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(checkpoint, tmp_path, task, data, message):
    with pytest.raises(ValueError, match=message):
        tiny_trainer(tmp_path).test(
            task(), datamodule=TinyData(**data), ckpt_path=checkpoint, weights_only=True
        )


def test_a_checkpoint_of_another_program_is_refused(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    del content["bertlab_task"]
    torch.save(content, tmp_path / "foreign.ckpt")
    with pytest.raises(ValueError, match="not of a bertlab task"):
        tiny_trainer(tmp_path).test(
            tiny_task(), datamodule=TinyData(), ckpt_path=tmp_path / "foreign.ckpt", weights_only=True
        )


class StopAfterFirstEpoch(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = True
        trainer.save_checkpoint(Path(trainer.default_root_dir) / "part.ckpt")


def test_a_resumed_run_ends_as_one_never_stopped(tmp_path):
    def run(callbacks=(), ckpt_path=None):
        task, trainer = tiny_task(), tiny_trainer(tmp_path, max_epochs=3, callbacks=list(callbacks))
        trainer.fit(task, datamodule=TinyData(), ckpt_path=ckpt_path, weights_only=True)
        return task, trainer

    whole, whole_trainer = run()
    _, stopped = run([StopAfterFirstEpoch()])
    assert stopped.global_step == 6
    resumed, resumed_trainer = run(ckpt_path=tmp_path / "part.ckpt")
    assert resumed_trainer.global_step == whole_trainer.global_step == 18
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(
        whole_trainer.optimizers[0].param_groups, resumed_trainer.optimizers[0].param_groups, strict=True
    ):
        assert (a["lr"], a["block"]) == (b["lr"], b["block"])

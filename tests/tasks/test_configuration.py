"""A task from YAML: classes by path, defaults that come back, errors that name the key."""

import sys
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.cli import LightningCLI

from bertlab.encoders.from_config import EncoderFromConfig
from bertlab.losses.focal import Focal
from bertlab.schedules.constant import Constant
from bertlab.schedules.cosine import Cosine
from bertlab.schedules.linear import Linear
from bertlab.tasks.sequence_classification import SequenceClassification
from bertlab.tasks.text_task import TextTask
from tests.tasks.tiny import TinyData, tiny_task, tiny_trainer

TINY = {
    "class_path": "bertlab.encoders.from_config.EncoderFromConfig",
    "init_args": {
        "model_type": "bert",
        "config": {
            "vocab_size": 30,
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "intermediate_size": 8,
        },
    },
}


def parse(tmp_path, monkeypatch, *flags: str, **init_args) -> LightningCLI:
    config = tmp_path / "config.yaml"
    path = "bertlab.tasks.sequence_classification.SequenceClassification"
    config.write_text(
        yaml.safe_dump({"model": {"class_path": path, "init_args": {"encoder": TINY} | init_args}})
    )
    monkeypatch.setattr(sys, "argv", ["bertlab"])
    arguments = [f"--config={config}", "--trainer.logger=false", "--trainer.accelerator=cpu", *flags]
    return LightningCLI(
        TextTask, subclass_mode_model=True, run=False, save_config_callback=None, args=arguments
    )


def test_defaults(tmp_path, monkeypatch):
    task = parse(tmp_path, monkeypatch).model
    assert isinstance(task, SequenceClassification)
    assert isinstance(task.encoder, EncoderFromConfig)
    assert task.schedule == Linear(warmup_fraction=0.1)
    optimizer = task.optimizer(task.encoder.parameters())
    assert (type(optimizer).__name__, optimizer.defaults["lr"]) == ("RowAdamW", 5e-5)


def test_parts_by_class_path(tmp_path, monkeypatch):
    task = parse(
        tmp_path,
        monkeypatch,
        loss={"class_path": "bertlab.losses.focal.Focal", "init_args": {"gamma": 3.0}},
        schedule={"class_path": "bertlab.schedules.cosine.Cosine", "init_args": {"warmup_fraction": 0.2}},
        optimizer={"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
        layer_decay=0.9,
    ).model
    assert isinstance(task.loss, Focal)
    assert task.loss.gamma == 3.0
    assert task.schedule == Cosine(warmup_fraction=0.2)
    assert task.optimizer(task.encoder.parameters()).defaults["lr"] == 0.1


def test_a_scheduler_of_torch(tmp_path, monkeypatch):
    path = "torch.optim.lr_scheduler.StepLR"
    task = parse(tmp_path, monkeypatch, schedule={"class_path": path, "init_args": {"step_size": 3}}).model
    scheduler = task.schedule(task.optimizer(task.encoder.parameters()))
    assert scheduler.step_size == 3


def test_flags_reach_into_parts(tmp_path, monkeypatch):
    task = parse(
        tmp_path,
        monkeypatch,
        "--model.init_args.schedule.init_args.warmup_fraction=0.3",
        "--model.init_args.optimizer.init_args.lr=1e-3",
    ).model
    assert task.schedule == Linear(warmup_fraction=0.3)
    assert task.optimizer(task.encoder.parameters()).defaults["lr"] == 1e-3


def test_the_printed_configuration_comes_back(tmp_path, monkeypatch):
    first = parse(tmp_path, monkeypatch, layer_decay=0.9)
    printed = first.parser.dump(first.config, skip_none=False)
    (tmp_path / "printed.yaml").write_text(printed)
    second = LightningCLI(
        TextTask,
        subclass_mode_model=True,
        run=False,
        save_config_callback=None,
        args=[f"--config={tmp_path / 'printed.yaml'}"],
    )
    assert second.parser.dump(second.config, skip_none=False) == printed


def test_a_wrong_value_names_the_key(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        parse(tmp_path, monkeypatch, problem="ranking")
    assert "ranking" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_of_a_fused_optimizer_are_clipped(precision: str, tmp_path: Path) -> None:
    """Lightning refuses it in mixed precision, where fused optimizers take back float16's scaling themselves."""
    task = tiny_task(
        optimizer=lambda params: torch.optim.SGD(params, lr=1.0, fused=True), schedule=Constant()
    )
    trainer = tiny_trainer(tmp_path, max_steps=1, gradient_clip_val=1e-3, precision=precision)
    task.label_names = ("ham", "spam", "news")
    task.head = task.build_head()
    before = [p.detach().clone() for p in task.parameters()]
    trainer.fit(task, datamodule=TinyData())
    moved = torch.cat([(p.detach() - b).flatten() for p, b in zip(task.parameters(), before, strict=True)])
    assert float(moved.norm()) == pytest.approx(1e-3, rel=1e-2)

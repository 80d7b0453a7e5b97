"""A tiny real BERT on real batches of texts, for strategies that look into the encoder or the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import nn

from bertlab.callbacks.step_seed import StepSeed
from bertlab.callbacks.strategy import Strategy
from bertlab.data.text_classification import TextClassificationData
from bertlab.encoders.pretrained import PretrainedEncoder
from bertlab.tasks.sequence_classification import SequenceClassification
from bertlab.tracking.checkpoints import settle_counters
from tests.system.tiny_project import write_model, write_texts

STEPS = 6  # of an epoch: 96 rows for training, 12 for validation


def write_bert(folder: Path, layers: int = 2) -> Path:
    """model/ (layers × 32, with dropout) and texts.csv (120 rows)."""
    write_model(folder / "model", layers)
    write_texts(folder / "texts.csv", rows=120)
    return folder


class Seen(Callback):
    """What a training shows: losses, validations, and how many tokens were embedded."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.validations: list[dict[str, float]] = []
        self.embedded: list[int] = [0]
        self._step = -1

    def on_fit_start(self, trainer: Trainer, pl_module: SequenceClassification) -> None:
        pl_module.word_embedding.register_forward_hook(self._count)

    def _count(self, module: nn.Module, args: Any, output: Any) -> None:
        self.embedded[-1] += args[0].numel()

    def on_train_start(self, trainer: Trainer, pl_module: SequenceClassification) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step > self._step:  # the last micro-batch of a step
            self._step = trainer.global_step
            self.losses.append(float(trainer.callback_metrics["train/loss"]))

    def on_validation_end(self, trainer: Trainer, pl_module: SequenceClassification) -> None:
        if not trainer.sanity_checking:
            metrics = trainer.callback_metrics
            self.validations.append(
                {key: float(value) for key, value in metrics.items() if key.startswith("val/")}
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: SequenceClassification) -> None:
        self.embedded.append(0)


class SaveEachStep(Callback):
    """A checkpoint between any two optimizer steps, where bertlab saves its own."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        settle_counters(trainer)
        if batch_idx % trainer.accumulate_grad_batches == 0:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / f"step={trainer.global_step}.ckpt")


def bert_task(project: Path, **arguments: Any) -> SequenceClassification:
    """A task whose first weights are always the same."""
    encoder = arguments.pop("encoder", None) or PretrainedEncoder(str(project / "model"))
    torch.manual_seed(1)
    arguments.setdefault("optimizer", lambda params: torch.optim.AdamW(params, lr=1e-2))
    return SequenceClassification(encoder, **arguments)


def fit_bert(
    strategies: list[Strategy],
    root: Path,
    project: Path,
    *,
    task: SequenceClassification | None = None,
    data: TextClassificationData | None = None,
    ckpt_path: Path | None = None,
    before: tuple[Callback, ...] = (),
    **trainer_args: Any,
) -> tuple[SequenceClassification, Seen]:
    """Train on one CPU core; `before` stands before the strategies."""
    seen = Seen()
    trainer = Trainer(
        **{
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 3,
            "default_root_dir": root,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "use_distributed_sampler": False,
            "log_every_n_steps": 1,
            "callbacks": [*before, StepSeed(0), *strategies, seen],
        }
        | trainer_args
    )
    task = task or bert_task(project)
    data = data or bert_data(project)
    trainer.fit(task, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return task, seen


def bert_data(project: Path, kind: type[TextClassificationData] = TextClassificationData) -> Any:
    return kind(str(project / "model"), str(project / "texts.csv"), batch_size=16, seed=3)

"""A tiny BERT and a tiny data module whose labels can be read off the tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from bertlab.encoders.from_config import EncoderFromConfig
from bertlab.interfaces import TextBatch
from bertlab.tasks.sequence_classification import SequenceClassification

VOCABULARY = 40


def tiny_encoder(**changes: Any) -> EncoderFromConfig:
    torch.manual_seed(0)
    config = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 32,
    }
    return EncoderFromConfig("bert", config | changes, dropout=0.0, attention_dropout=0.0)


def tiny_task(**arguments: Any) -> SequenceClassification:
    encoder = arguments.pop("encoder", None) or tiny_encoder()
    arguments.setdefault("optimizer", lambda params: torch.optim.AdamW(params, lr=5e-3))
    torch.manual_seed(1)
    return SequenceClassification(encoder, dropout=0.0, **arguments)


class TinyData(LightningDataModule):
    """Rows of 3 to 12 tokens; class c is told by how often token 10 + c stands in a row.

    The regression target is the share of token 10, the multi-label classes are which of 10, 11, 12 are there.
    """

    def __init__(
        self,
        problem: str = "single_label",
        rows: int = 96,
        batch_size: int = 16,
        label_names: tuple[str, ...] | None = ("ham", "spam", "news"),
        vocabulary_size: int = VOCABULARY,
        splits: int = 1,
    ) -> None:
        super().__init__()
        self.problem, self.batch_size, self.splits = problem, batch_size, splits
        self.label_names = None if problem == "regression" else label_names
        self.tokenizer = range(vocabulary_size)  # all that a task asks of a tokenizer is its length
        self.classes = 3 if label_names is None else len(label_names)
        generator = torch.Generator().manual_seed(7)
        draw = lambda low, high, n: torch.randint(low, high, (n,), generator=generator)  # noqa: E731
        self.lengths = draw(3, 13, rows)
        self.classes_of_rows = draw(0, self.classes, rows)
        self.tokens = [draw(20, VOCABULARY, int(n)) for n in self.lengths]
        for row, label in zip(self.tokens, self.classes_of_rows, strict=True):
            row[torch.rand(len(row), generator=generator) < 0.5] = 10 + label
            row[1] = 10 + label

    def labels(self, rows: Tensor) -> Tensor:
        if self.problem == "regression":
            return torch.tensor([float((self.tokens[i] == 10).float().mean()) for i in rows])
        if self.problem == "multi_label":
            found = [[float((self.tokens[i] == 10 + c).any()) for c in range(self.classes)] for i in rows]
            return torch.tensor(found)
        return self.classes_of_rows[rows]

    def batch(self, rows: Tensor, labelled: bool = True) -> TextBatch:
        rows = rows[self.lengths[rows].argsort(descending=True, stable=True)]
        ids = torch.cat([self.tokens[i] for i in rows])
        labels = self.labels(rows) if labelled else None
        return TextBatch(ids, torch.zeros_like(ids), self.lengths[rows], rows, labels)

    def _share(self) -> tuple[int, int]:
        assert self.trainer is not None
        return self.trainer.global_rank, self.trainer.world_size

    def train_dataloader(self) -> DataLoader:
        rank, ranks = self._share()
        own = self.splits // ranks
        batches = []
        for step in torch.arange(len(self.tokens)).split(self.batch_size):
            for part in range(rank * own, (rank + 1) * own):
                batch = self.batch(step[part :: self.splits])
                batch.step_labels, batch.micro_batches = self.labels(step), self.splits
                batches.append(batch)
        return DataLoader(batches, batch_size=None)

    def val_dataloader(self) -> DataLoader:
        rank, ranks = self._share()
        rows = torch.arange(len(self.tokens))
        return DataLoader([self.batch(part[rank::ranks]) for part in rows.split(10)], batch_size=None)

    test_dataloader = val_dataloader

    def predict_dataloader(self) -> DataLoader:
        return DataLoader([self.batch(torch.arange(5), labelled=False)], batch_size=None)


def tiny_trainer(root: Path, **changes: Any) -> Trainer:
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "default_root_dir": root,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
    }
    return Trainer(**(settings | changes))

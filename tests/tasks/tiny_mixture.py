"""Two tiny tasks over one tiny encoder, and their data: steps of one of them, or of both."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from bertlab.interfaces import MultiTaskBatch, TextBatch
from bertlab.tasks.multi_task import MultiTask
from bertlab.tasks.sequence_classification import SequenceClassification
from bertlab.tasks.token_classification import TokenClassification
from tests.tasks.tiny import TinyData, tiny_encoder
from tests.tasks.tiny_words import TinyWords


def tiny_mixture(pool: Any = "mean", **arguments: Any) -> MultiTask:
    encoder = arguments.pop("encoder", None) or tiny_encoder()
    arguments.setdefault("optimizer", lambda params: torch.optim.AdamW(params, lr=5e-3))
    torch.manual_seed(1)
    tasks: dict[str, Any] = {
        "texts": lambda encoder: SequenceClassification(encoder, dropout=0.0, pool=pool),
        "words": lambda encoder: TokenClassification(encoder, dropout=0.0),
    }
    return MultiTask(encoder, arguments.pop("tasks", tasks), **arguments)


class TinyMixture(LightningDataModule):
    """Steps in the given order: each names its tasks, "texts", "words" or both; some may not be validated."""

    def __init__(
        self,
        steps: tuple[tuple[str, ...], ...] = (("texts",), ("words",)) * 4,
        splits: int = 1,
        unvalidated: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.steps, self.splits = steps, splits
        self.texts, self.words = TinyData(rows=93, splits=splits), TinyWords(splits=splits)
        self.tasks: dict[str, Any] = {"texts": self.texts, "words": self.words}
        for name, data in self.tasks.items():
            data.has_validation = name not in unvalidated

    def _batches(self, name: str, method: str) -> list[TextBatch]:
        data = self.tasks[name]
        data.trainer = self.trainer
        return [replace(batch, task=name) for batch in getattr(data, method)().dataset]

    def train_dataloader(self) -> DataLoader:
        assert self.trainer is not None
        own = self.splits // self.trainer.world_size
        parts = {name: self._batches(name, "train_dataloader") for name in self.tasks}
        count = dict.fromkeys(self.tasks, 0)
        batches: list[MultiTaskBatch] = []
        for step in self.steps:
            for micro_batch in range(own):
                places = {name: count[name] % (len(parts[name]) // own) * own + micro_batch for name in step}
                batches.append(MultiTaskBatch(tuple(parts[name][place] for name, place in places.items())))
            for name in step:
                count[name] += 1
        return DataLoader(batches, batch_size=None)

    def val_dataloader(self) -> list[DataLoader]:
        validated = [name for name, data in self.tasks.items() if data.has_validation]
        return [DataLoader(self._batches(name, "val_dataloader"), batch_size=None) for name in validated]

    test_dataloader = val_dataloader

    def predict_dataloader(self) -> list[DataLoader]:
        return [DataLoader(self._batches(name, "predict_dataloader"), batch_size=None) for name in self.tasks]

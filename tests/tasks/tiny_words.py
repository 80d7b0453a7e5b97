"""Sentences whose tags can be read off their tokens, as a data module, and a task for them."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from bertlab.interfaces import WordBatch
from bertlab.tasks.token_classification import TokenClassification
from tests.tasks.tiny import VOCABULARY, tiny_encoder

NAMES = ("O", "B-x", "I-x", "B-y", "I-y")


def tiny_tagger(**arguments: Any) -> TokenClassification:
    encoder = arguments.pop("encoder", None) or tiny_encoder()
    arguments.setdefault("optimizer", lambda params: torch.optim.AdamW(params, lr=5e-3))
    torch.manual_seed(1)
    return TokenClassification(encoder, dropout=0.0, **arguments)


class TinyWords(LightningDataModule):
    """Sentences of 2 to 9 words of one or two pieces; the first piece is 10 + the class, or above 20 for O."""

    def __init__(
        self,
        rows: int = 60,
        batch_size: int = 20,
        splits: int = 1,
        label_names: tuple[str, ...] | None = NAMES,
        scheme: str = "bio",
    ) -> None:
        super().__init__()
        self.batch_size, self.splits, self.label_names, self.scheme = batch_size, splits, label_names, scheme
        self.tokenizer = range(VOCABULARY)
        generator = torch.Generator().manual_seed(3)
        draw = lambda low, high, n: torch.randint(low, high, (n,), generator=generator)  # noqa: E731
        self.sentences: list[tuple[Tensor, Tensor, Tensor]] = []  # ids, places of words, labels
        for words in draw(2, 10, rows).tolist():
            labels = draw(0, 5, words)
            second = draw(0, 2, words)
            places = 1 + (1 + second).cumsum(0) - (1 + second)
            ids = draw(20, VOCABULARY, int(words + second.sum()) + 2)
            ids[places] = torch.where(labels > 0, 10 + labels, ids[places])
            ids[0], ids[-1] = 1, 2
            self.sentences.append((ids, places, labels))
        self.counts = torch.tensor([len(labels) for *_, labels in self.sentences])
        self.first = self.counts.cumsum(0) - self.counts

    @property
    def labels(self) -> Tensor:
        return torch.cat([labels for *_, labels in self.sentences])

    def batch(self, rows: Tensor, labelled: bool = True) -> WordBatch:
        lengths = torch.tensor([len(self.sentences[row][0]) for row in rows])
        order = lengths.argsort(descending=True, stable=True)
        rows, lengths = rows[order], lengths[order]
        starts = lengths.cumsum(0) - lengths
        chosen = [self.sentences[row] for row in rows]
        ids = torch.cat([ids for ids, *_ in chosen])
        return WordBatch(
            ids,
            torch.zeros_like(ids),
            lengths,
            rows,
            torch.cat([labels for *_, labels in chosen]) if labelled else None,
            places=torch.cat([start + places for start, (_, places, _) in zip(starts, chosen, strict=True)]),
            words=torch.cat([self.first[row] + torch.arange(int(self.counts[row])) for row in rows]),
            sentences=rows.repeat_interleave(self.counts[rows]),
        )

    def step(self, rows: Tensor, splits: int) -> list[WordBatch]:
        step_labels = torch.cat([self.sentences[row][2] for row in rows])
        parts = [self.batch(rows[part::splits]) for part in range(splits)]
        for part in parts:
            part.step_labels, part.micro_batches = step_labels, splits
        return parts

    def train_dataloader(self) -> DataLoader:
        rank, ranks = self._share()
        own = self.splits // ranks
        steps = [
            self.step(rows, self.splits) for rows in torch.arange(len(self.sentences)).split(self.batch_size)
        ]
        return DataLoader(
            [part for step in steps for part in step[rank * own : (rank + 1) * own]], batch_size=None
        )

    def val_dataloader(self) -> DataLoader:
        rank, ranks = self._share()
        rows = torch.arange(len(self.sentences)).flip(0)
        return DataLoader([self.batch(part[rank::ranks]) for part in rows.split(7)], batch_size=None)

    test_dataloader = val_dataloader

    def predict_dataloader(self) -> DataLoader:
        return DataLoader([self.batch(torch.arange(5), labelled=False)], batch_size=None)

    def _share(self) -> tuple[int, int]:
        assert self.trainer is not None
        return self.trainer.global_rank, self.trainer.world_size

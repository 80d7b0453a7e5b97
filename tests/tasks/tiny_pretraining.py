"""Pretraining on a tiny language: batches, a data module, and transformers' own loss of the same examples."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from bertlab.encoders.from_config import EncoderFromConfig
from bertlab.interfaces import PretrainingBatch
from bertlab.tasks.pretraining import Pretraining
from tests.encoders.tiny import CONFIGS

CLS, SEP, MASK, FIRST = 2, 3, 4, 5  # 0 and 1 are the padding of BERT and of RoBERTa
VOCABULARY = 40
WORDS = VOCABULARY - FIRST


def tiny_config(model_type: str, **changes: Any) -> dict[str, Any]:
    sizes = {"num_hidden_layers": 2, "vocab_size": VOCABULARY}
    if model_type == "distilbert":
        sizes = {"n_layers": 2, "vocab_size": VOCABULARY}
    return CONFIGS[model_type] | sizes | changes


def tiny_encoder(model_type: str = "bert", **changes: Any) -> EncoderFromConfig:
    torch.manual_seed(0)
    config = tiny_config(model_type, **changes)
    return EncoderFromConfig(model_type, config, dropout=0.0, attention_dropout=0.0)


def tiny_task(objective: str = "mlm_nsp", model_type: str = "bert", **arguments: Any) -> Pretraining:
    encoder = arguments.pop("encoder", None) or tiny_encoder(model_type)
    arguments.setdefault("optimizer", lambda params: torch.optim.AdamW(params, lr=3e-3))
    torch.manual_seed(1)
    return Pretraining(encoder, objective, **arguments)


class Language:
    """Segments of one topic each: four words in five are its own; `apart` topics after that of A is that of B.

    So a masked word can be told from the words around it, a random B by its topic (but where it is the same by chance),
    and two that are swapped by their order. Which topics follow each other takes long to learn where they are many.
    """

    def __init__(
        self, rows: int, seed: int = 0, swap: bool = False, topics: int = WORDS, apart: int = 1
    ) -> None:
        self.topics, self.apart = topics, apart
        generator = torch.Generator().manual_seed(seed)
        self.draw = lambda low, high: int(torch.randint(low, high, (), generator=generator))
        self.uniform = lambda n=(): torch.rand(n, generator=generator)
        self.rows = [self._row(swap) for _ in range(rows)]

    def _words(self, topic: int, length: int) -> list[int]:
        noise = self.uniform(length) < 0.2
        words = [self.draw(0, VOCABULARY) if strange else topic % self.topics for strange in noise]
        return [FIRST + word % WORDS for word in words]

    def _row(self, swap: bool) -> dict[str, Any]:
        a, b = self.draw(3, 9), self.draw(3, 9)
        topic = self.draw(0, VOCABULARY)
        first, second = self._words(topic, a), self._words(topic + self.apart, b)
        label = int(self.uniform() < 0.5)
        if label and swap:
            first, second = second, first
        elif label:
            second = self._words(self.draw(0, VOCABULARY), b)
        ids = torch.tensor([CLS, *first, SEP, *second, SEP])
        types = torch.zeros_like(ids)
        types[len(first) + 2 :] = 1
        places = (ids >= FIRST).nonzero().squeeze(1)
        chosen = places[self.uniform(len(places)) < 0.15]
        masked = ids.clone()
        masked[chosen] = MASK
        return {"ids": masked, "types": types, "places": chosen, "labels": ids[chosen], "sentence": label}

    def batch(self, numbers: Tensor, **step: int) -> PretrainingBatch:
        order = sorted(numbers.tolist(), key=lambda i: -len(self.rows[i]["ids"]))
        rows = [self.rows[i] for i in order]
        lengths = torch.tensor([len(row["ids"]) for row in rows])
        starts = (lengths.cumsum(0) - lengths).tolist()
        return PretrainingBatch(
            torch.cat([row["ids"] for row in rows]),
            torch.cat([row["types"] for row in rows]),
            lengths,
            torch.tensor(order),
            masked_positions=torch.cat([row["places"] + s for row, s in zip(rows, starts, strict=True)]),
            masked_labels=torch.cat([row["labels"] for row in rows]),
            sentence_labels=torch.tensor([row["sentence"] for row in rows]),
            **step,
        )

    def step(self, numbers: Tensor, parts: int = 1) -> list[PretrainingBatch]:
        """An optimizer step in micro-batches."""
        masked = sum(len(self.rows[i]["labels"]) for i in numbers.tolist())
        facts = {"step_masked": masked, "step_sequences": len(numbers), "micro_batches": parts}
        return [self.batch(numbers[part::parts], **facts) for part in range(parts)]


class TinyData(LightningDataModule):
    """`epochs` of training are the same rows; validation rows are others of the same language."""

    def __init__(self, rows: int = 256, batch_size: int = 32, splits: int = 1, **language: Any) -> None:
        super().__init__()
        self.train, self.val = Language(rows, **language), Language(64, seed=1, **language)
        self.batch_size, self.splits = batch_size, splits
        self.sentence_task = "sentence_order" if language.get("swap") else "next_sentence"
        self.tokenizer = range(VOCABULARY)

    def tokens_and_words(self, split: str) -> tuple[int, int]:
        assert split == "validation"
        return 300, 200

    def _share(self) -> tuple[int, int]:
        assert self.trainer is not None
        return self.trainer.global_rank, self.trainer.world_size

    def train_dataloader(self) -> DataLoader:
        rank, ranks = self._share()
        own = self.splits // ranks
        batches = []
        for numbers in torch.arange(len(self.train.rows)).split(self.batch_size):
            batches += self.train.step(numbers, self.splits)[rank * own : (rank + 1) * own]
        return DataLoader(batches, batch_size=None)

    def val_dataloader(self) -> DataLoader:
        rank, ranks = self._share()
        numbers = torch.arange(len(self.val.rows))
        return DataLoader([self.val.batch(part[rank::ranks]) for part in numbers.split(10)], batch_size=None)


def padded(batch: PretrainingBatch, pad: int, types: bool) -> dict[str, Tensor]:
    """What transformers is given for the same examples, with labels of −100 where nothing is masked."""
    real = torch.arange(int(batch.lengths.max())) < batch.lengths[:, None]
    labels = torch.full_like(batch.input_ids, -100)
    labels[batch.masked_positions] = batch.masked_labels

    def spread(values: Tensor, fill: int) -> Tensor:
        return torch.full(real.shape, fill).masked_scatter_(real, values)

    inputs = {"input_ids": spread(batch.input_ids, pad), "attention_mask": real.long()}
    if types:
        inputs["token_type_ids"] = spread(batch.token_type_ids, 0)
    return inputs | {"labels": spread(labels, -100)}

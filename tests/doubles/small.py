"""A task and a data module that train in milliseconds, for tests of what stands around a training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset

ROWS, FEATURES = 48, 4


class Order(Sampler[int]):
    """Shuffled by (seed, epoch); goes on in the middle of an epoch."""

    def __init__(self, seed: int, batch: int) -> None:
        self.seed, self.batch, self.epoch, self.start = seed, batch, 0, (0, 0)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(1000 * self.seed + self.epoch)
        order = torch.randperm(ROWS, generator=generator).tolist()
        done = self.start[1] if self.epoch == self.start[0] else 0
        yield from order[done * self.batch :]

    def __len__(self) -> int:
        return ROWS


class SmallData(LightningDataModule):
    """Two classes of four random features each."""

    def __init__(
        self,
        source: str = "here",
        tokenizer: str | None = None,
        batch: int = 4,
        seed: int = 0,
        predict_source: str | None = None,
    ) -> None:
        super().__init__()
        self.source, self.tokenizer, self.batch, self.predict_source = (
            source,
            tokenizer,
            batch,
            predict_source,
        )
        self.order = Order(seed, batch)
        self.names: tuple[str, ...] = ("ham", "spam")

    @property
    def label_names(self) -> tuple[str, ...]:
        return self.names

    @label_names.setter
    def label_names(self, names: tuple[str, ...]) -> None:
        self.names = names

    def class_counts(self) -> Tensor:
        return self.rows(0).tensors[1].bincount(minlength=2)

    def state_dict(self) -> dict[str, int]:
        assert self.trainer is not None
        per_epoch = ROWS // self.batch // self.trainer.accumulate_grad_batches
        epoch = self.trainer.global_step // per_epoch
        return {"epoch": epoch, "batches": (self.trainer.global_step % per_epoch) * self._accumulate()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.order.start = (state_dict["epoch"], state_dict["batches"])
        self.order.set_epoch(state_dict["epoch"])

    def _accumulate(self) -> int:
        assert self.trainer is not None
        return self.trainer.accumulate_grad_batches

    def rows(self, seed: int) -> TensorDataset:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(ROWS, FEATURES, generator=generator)
        return TensorDataset(x, (x[:, 0] > 0.3).long(), torch.arange(ROWS))

    def loader(self, rows: Dataset[Any]) -> DataLoader[Any]:
        return DataLoader(rows, batch_size=16)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.rows(0), batch_size=self.batch, sampler=self.order)

    def val_dataloader(self) -> DataLoader[Any]:
        return self.loader(self.rows(1))

    def test_dataloader(self) -> DataLoader[Any]:
        return self.loader(self.rows(2))

    def predict_dataloader(self) -> DataLoader[Any]:
        return self.loader(self.rows(3))

    def predict_table(self) -> pa.Table:
        return pa.table({"id": [f"row-{i}" for i in range(ROWS)]})


class SmallEncoder(nn.Module):
    """A layer with dropout."""

    def __init__(self, source: str = "tiny", width: int = 8, dropout: float = 0.3) -> None:
        super().__init__()
        self.source = source
        self.layers = nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU(), nn.Dropout(dropout))


class SmallTask(LightningModule):
    """A linear classifier on an encoder, with a scheduler of choice."""

    monitor = ("val/loss", "min")

    def __init__(
        self,
        encoder: nn.Module | None = None,
        lr: float = 0.05,
        scheduler: str = "linear",
        interval: str = "step",
    ) -> None:
        super().__init__()
        self.encoder = SmallEncoder() if encoder is None else encoder
        self.head = nn.Linear(8, 2)
        self.lr, self.scheduler, self.interval = lr, scheduler, interval
        self.counts = torch.zeros(2, 2, dtype=torch.long)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder.layers(x))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("train/loss", loss, on_step=True, on_epoch=False)
        return loss

    def _evaluate(self, batch: Any, split: str) -> None:
        logits = self(batch[0])
        self.log(f"{split}/loss", nn.functional.cross_entropy(logits, batch[1]))
        self.log(f"{split}/accuracy", (logits.argmax(1) == batch[1]).float().mean())
        for true, found in zip(batch[1].tolist(), logits.argmax(1).tolist(), strict=True):
            self.counts[true, found] += 1

    def on_validation_epoch_start(self) -> None:
        self.counts.zero_()

    def on_test_epoch_start(self) -> None:
        self.counts.zero_()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._evaluate(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._evaluate(batch, "test")

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        return {"index": batch[2], "probabilities": self(batch[0]).softmax(1)}

    def confusion_matrix(self) -> Tensor:
        return self.counts

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["bertlab_label_names"] = ["ham", "spam"]

    def configure_optimizers(self) -> Any:
        groups = [
            {"params": list(self.encoder.parameters()), "block": "layer.0"},
            {"params": list(self.head.parameters()), "block": "head"},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.lr)
        if self.scheduler == "none":
            return optimizer
        if self.scheduler == "plateau":
            scheduler: Any = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.7)
        else:
            scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + 0.1 * step))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": self.interval, "monitor": "val/loss"},
        }


class Note(Callback):
    """Records an event each few steps, as strategies do."""

    def __init__(self, every: int = 3, text: str = "hello") -> None:
        self.every, self.text = every, text

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every == 0 and batch_idx % trainer.accumulate_grad_batches == 0:
            for keeper in [*trainer.callbacks, *trainer.loggers]:
                if hasattr(keeper, "record_event"):
                    keeper.record_event(
                        trainer.global_step,
                        trainer.current_epoch,
                        "Note",
                        "said",
                        {"text": self.text, "x": 0.5},
                    )


class Killed(BaseException):
    """Not an Exception, so that nothing on the way handles it: what the process left behind is all there is."""


class KillAt(Callback):
    """Stops everything in the middle of a step or of a validation."""

    def __init__(self, step: int, where: str = "train_batch_end") -> None:
        self.step, self.where = step, where

    def _at(self, where: str, trainer: Trainer) -> None:
        if where == self.where and trainer.global_step >= self.step and not trainer.sanity_checking:
            raise Killed

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        self._at("train_batch_start", trainer)

    def on_before_optimizer_step(self, trainer: Trainer, *args: Any) -> None:
        self._at("before_optimizer_step", trainer)

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        self._at("train_batch_end", trainer)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any) -> None:
        self._at("validation_batch_end", trainer)

    def on_validation_end(self, trainer: Trainer, *args: Any) -> None:
        self._at("validation_end", trainer)

    def on_train_epoch_end(self, trainer: Trainer, *args: Any) -> None:
        self._at("train_epoch_end", trainer)

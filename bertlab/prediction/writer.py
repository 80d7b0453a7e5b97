"""PredictionWriter: the answers for a file of texts, as Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich import print as rich_print
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from bertlab.interfaces import HasClassCounts, HasTasks
from bertlab.prediction.tagged_sentences import WORDS, with_tags
from bertlab.tracking.atomic import atomic_file


@runtime_checkable
class _HasPredictTable(Protocol):
    """A data module that knows the rows it hands out for prediction."""

    def predict_table(self) -> pa.Table: ...


class PredictionWriter(Callback):
    """Writes <folder>/<source>.parquet: the rows of the source in their order, each with the model's answer.

    Columns: those of the data module's `predict_table()` (id or text, and the label where it is known); then
    `predicted` (a label; a list of labels for multi-label; a number for regression); then, of classes,
    `probability_<label>` for each. Where the table has a column `words`, a row is a sentence, the model's answers
    are of its words, and the columns are those of `bertlab.prediction.tagged_sentences`. The file is there whole or
    not at all. All ranks hand their rows to the first, which writes. Of several tasks in one each has a folder of its
    own, <folder>/<task>/<source>.parquet.

    Args:
        folder: of the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[str, _Kept] = {}

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with no rows."""
        self._kept = {}

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the answers of a batch."""
        kept = self._kept.setdefault(outputs.get("task", ""), _Kept())
        kept.index.append(outputs["index"].detach().cpu())
        answers = outputs["probabilities"] if "probabilities" in outputs else outputs["values"].unsqueeze(1)
        kept.answers.append(answers.detach().float().cpu())

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bring the answers of all ranks together and write them.

        Raises:
            TypeError: the data module has no `predict_table()`.
            ValueError: rows without an answer.
        """
        data: Any = getattr(trainer, "datamodule", None)
        if not isinstance(data, HasTasks):
            self._write(trainer, pl_module, data, self._kept.get("", _Kept()), self._folder)
            return
        assert isinstance(pl_module, HasTasks)
        for name, of_task in data.tasks.items():
            kept = self._kept.get(name, _Kept())
            self._write(trainer, pl_module.tasks[name], of_task, kept, self._folder / name)

    def _write(self, trainer: Trainer, task: LightningModule, data: Any, kept: _Kept, folder: Path) -> None:
        if not isinstance(data, _HasPredictTable):
            raise TypeError(f"predictions need a data module with predict_table(), got {type(data).__name__}")
        index, answers = kept.gather(trainer)
        if not trainer.is_global_zero:
            return
        table = data.predict_table()
        names = data.label_names if isinstance(data, HasClassCounts) else None
        problem = getattr(task, "problem", None)
        if WORDS in table.column_names:
            answers = _in_order(index, answers, len(table.column(WORDS).combine_chunks().flatten()), "word")
            table = with_tags(table, answers, names or (), entities=problem == "entities")
        else:
            answers = _in_order(index, answers, table.num_rows)
            table = with_answers(table, answers, names, several=problem == "multi_label")
        source = getattr(data, "predict_source", None)
        path = folder / f"{Path(source).stem if source else 'test'}.parquet"
        with atomic_file(path) as file:
            pq.write_table(table, file)
        rich_print(f"{table.num_rows:,} predictions: {path}")


@dataclass
class _Kept:
    """The answers of the batches of one task, on this rank."""

    index: list[Tensor] = field(default_factory=list[Tensor])
    answers: list[Tensor] = field(default_factory=list[Tensor])

    def gather(self, trainer: Trainer) -> tuple[Tensor, Tensor]:
        """Index (n,) and answers (n, C) of all ranks."""
        width = self.answers[0].shape[1] if self.answers else 0
        index = torch.cat(self.index) if self.index else torch.empty(0, dtype=torch.long)
        answers = torch.cat(self.answers) if self.answers else torch.empty(0, width)
        if trainer.world_size == 1:
            return index, answers
        device = trainer.strategy.root_device
        # A rank without a row does not know the number of classes, which all have to bring alike.
        width = int(trainer.strategy.reduce(torch.tensor(width, device=device), reduce_op="max"))
        answers = answers if len(answers) else torch.empty(0, width)
        indices, parts = gather_all_tensors(index.to(device)), gather_all_tensors(answers.to(device))
        return torch.cat(indices).cpu(), torch.cat(parts).cpu()


def _in_order(index: Tensor, answers: Tensor, rows: int, unit: str = "row") -> Tensor:
    """(rows, C): the answers by row; a row that a sampler gave twice counts once."""
    found = torch.zeros(rows, dtype=torch.bool)
    found[index] = True
    if not found.all():
        missing = (~found).nonzero().flatten().tolist()
        raise ValueError(
            f"{len(missing)} of {rows} {unit}s got no prediction, the first of them {unit} {missing[0]}"
        )
    ordered = answers.new_zeros(rows, answers.shape[1] if len(answers) else 0)
    ordered[index] = answers
    return ordered


def with_answers(table: pa.Table, answers: Tensor, names: Sequence[str] | None, several: bool) -> pa.Table:
    """The table with the columns `predicted` and `probability_<label>` added.

    Args:
        table: n rows.
        answers: (n, C) probabilities, or (n, 1) values where there are no names.
        names: of the C classes; None: regression.
        several: whether a row can have several classes: those of a probability above 1/2.
    """
    if names is None:
        return table.append_column("predicted", pa.array(answers[:, 0].numpy()))
    if several:
        chosen = [[name for name, p in zip(names, row, strict=True) if p > 0.5] for row in answers.tolist()]
        table = table.append_column("predicted", pa.array(chosen, type=pa.list_(pa.string())))
    else:
        best = answers.argmax(dim=1).tolist() if len(answers) else []
        table = table.append_column("predicted", pa.array([names[i] for i in best], type=pa.string()))
    for column, name in enumerate(names):
        table = table.append_column(f"probability_{name}", pa.array(answers[:, column].numpy()))
    return table

"""Texts with labels: the data module of single-label and multi-label classification and of regression."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any, Literal

import pyarrow as pa
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from bertlab.data.labels import Problem
from bertlab.data.loader import ResumableLoader, check_trainer, loader_options
from bertlab.data.progress import EpochPosition
from bertlab.data.rows import Columns, TextRows
from bertlab.data.text_source import TextSource, check_options
from bertlab.data.tokenised import load_tokenizer, tokenise
from bertlab.data.tokenised_texts import TokenisedTexts
from bertlab.samplers.class_balanced import ClassBalanced
from bertlab.samplers.sorted_batches import SortedBatchSampler
from bertlab.samplers.token_budget import TokenBudgetSampler

STAGES = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",)}


class TextClassificationData(LightningDataModule):
    """Texts (or pairs of texts) with labels, read, split, tokenised once and packed into batches.

    Args:
        tokenizer: where the tokenizer comes from: `packaged:<name>`, a folder, or a hub id.
        source: a file (csv, tsv, jsonl, parquet), a folder with files train, validation, test,
            `packaged:<name>`, or a hub id.
        files: instead of `source`, the file of each split: `{train: …, validation: …, test: …}`.
        subset: configuration of a hub data set, e.g. `sst2` of `nyu-mll/glue`.
        revision: commit, tag or branch of a hub data set.
        split_names: hub splits that serve as train, validation and test.
        text_column: column of the text.
        text_pair_column: column of the second text of a pair.
        label_column: column of the label or of the regression target.
        id_column: column of an id without duplicates; predictions are written with it instead of the text.
        problem: one label a row, any number of labels, or a number to predict.
        label_names: classes in the order of their ids; null: the hub's own, else those of the training
            split, sorted.
        label_separator: between the labels of a row where a multi-label column holds strings.
        validation_fraction: share of the training rows that becomes the validation split where there is none.
        test_fraction: the same for the test split.
        split_seed: of that division.
        deduplicate: take equal texts once only, and out of the training split those of the other splits.
        empty_texts: whether a missing or blank text is an error, or its row is dropped (never in predict_source).
        max_length: tokens of a text (or pair) at most, special ones included; longer ones are cut.
        batch_size: rows of an optimizer step at most, over all ranks and accumulated micro-batches; null: no
            limit but `max_tokens`.
        max_tokens: tokens of an optimizer step at most, over all ranks and accumulated micro-batches.
        evaluation_max_tokens: tokens of a batch of validation, test and prediction at most.
        resampling_power: 0 leaves the shares of the classes as they are, 1 makes them equal in training.
        seed: of the order of the training rows; None: that of the run where there is one, else 0.
        num_workers: processes that make batches; packing takes microseconds, so 0 is fastest.
        predict_source: an unlabelled file to predict; null: the test split.
    """

    def __init__(
        self,
        tokenizer: str,
        source: str | None = None,
        files: dict[str, str] | None = None,
        subset: str | None = None,
        revision: str | None = None,
        split_names: dict[str, str] | None = None,
        text_column: str = "text",
        text_pair_column: str | None = None,
        label_column: str = "label",
        id_column: str | None = None,
        problem: Problem = "single_label",
        label_names: list[str] | None = None,
        label_separator: str = ",",
        validation_fraction: float = 0.1,
        test_fraction: float = 0.1,
        split_seed: int = 0,
        deduplicate: bool = False,
        empty_texts: Literal["error", "drop"] = "error",
        max_length: int = 128,
        batch_size: int | None = 32,
        max_tokens: int | None = None,
        evaluation_max_tokens: int = 8192,
        resampling_power: float = 0.0,
        seed: int | None = None,
        num_workers: int = 0,
        predict_source: str | None = None,
    ) -> None:
        super().__init__()
        fractions = {"validation": validation_fraction, "test": test_fraction}
        check_options(fractions, problem, label_names, resampling_power)
        columns = Columns(text_column, text_pair_column, label_column, id_column)
        self.text_source = TextSource(
            source, files, subset, revision, split_names, columns, problem, label_separator, fractions, split_seed,
            deduplicate, empty_texts,
        )  # fmt: skip
        self.problem: Problem = problem
        self.max_length = max_length
        self.batch_size, self.max_tokens = batch_size, max_tokens
        self.evaluation_max_tokens = evaluation_max_tokens
        self.resampling_power = resampling_power
        self.seed, self.num_workers = seed or 0, num_workers
        self.predict_source = predict_source
        self._tokenizer_source, self._tokenizer = tokenizer, None
        self._label_names = None if label_names is None else tuple(label_names)
        self._rows: dict[str, TextRows] = {}
        self._tokenised: dict[str, TokenisedTexts] = {}
        self._position = EpochPosition()

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The classes in the order of their ids; None for regression, and before they are known."""
        return self._label_names

    @label_names.setter
    def label_names(self, names: tuple[str, ...] | list[str] | None) -> None:
        chosen = None if names is None else tuple(names)
        if self._rows and chosen != self._label_names:
            raise RuntimeError(
                f"label_names {chosen} come too late: the data was read with {self._label_names}."
            )
        self._label_names = chosen

    @property
    def num_labels(self) -> int | None:
        """C, the outputs a head needs: the number of classes, 1 for regression; None before it is known."""
        if self.problem == "regression":
            return 1
        return None if self._label_names is None else len(self._label_names)

    @property
    def tokenizer(self) -> Any:
        """The fast tokenizer of transformers, loaded on first use."""
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self._tokenizer_source)
        return self._tokenizer

    def class_counts(self) -> Tensor:
        """(C,) int64: training rows of each class (before resampling; of multi-label data: positive rows)."""
        if self._label_names is None:
            raise ValueError(
                f"problem: {self.problem} has no classes to count, or the data was not read yet."
            )
        labels = self.dataset("train").labels
        assert labels is not None
        if labels.ndim == 2:
            return labels.sum(dim=0).to(torch.int64)
        return torch.bincount(labels, minlength=len(self._label_names))

    def prepare_data(self) -> None:
        """Download, repair and tokenise into the cache: on one process; the others read it in `setup`."""
        self.setup(self.trainer.state.fn.value if self.trainer and self.trainer.state.fn else "fit")

    def setup(self, stage: str) -> None:
        """Read what a stage needs; what was read before is kept."""
        check_trainer(self.trainer)
        for name in self._splits_of(stage):
            if name in self.splits(name):
                self.dataset(name)
        # Packing a batch takes microseconds: workers would cost more than they do.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")

    def splits(self, name: str) -> dict[str, TextRows]:
        """The rows of all splits, of which `name` is wanted; `predict` is the file of `predict_source`."""
        if name == "predict" and "predict" not in self._rows:
            assert self.predict_source is not None
            self._rows["predict"] = self.text_source.unlabelled(self.predict_source)
        elif name != "predict" and not set(self._rows) - {"predict"}:
            rows, self._label_names = self.text_source.load(self._label_names)
            self._rows.update(rows)
        return self._rows

    def dataset(self, name: str) -> TokenisedTexts:
        """The tokenised rows of `train`, `validation`, `test` or `predict`.

        Raises:
            ValueError: there is no such split.
        """
        if name not in self._tokenised:
            splits = self.splits(name)
            if name not in splits:
                raise ValueError(
                    f"There is no {name} split: the source has {', '.join(splits)}, and {name}_fraction is 0."
                )
            rows = splits[name]
            self._tokenised[name] = tokenise(self.tokenizer, rows, self.max_length)
        return self._tokenised[name]

    def train_dataloader(self) -> DataLoader[Any]:
        """Micro-batches of packed sequences, in optimizer steps that all ranks share; resumable anywhere."""
        dataset, (ranks, rank) = self.dataset("train"), self._ranks()
        draw = None
        if self.resampling_power > 0.0:
            assert dataset.labels is not None
            draw = ClassBalanced(dataset.labels.numpy(), self.resampling_power, self.seed)
        accumulated = self.trainer.accumulate_grad_batches if self.trainer else 1
        sampler = TokenBudgetSampler(
            dataset.lengths, self.batch_size, self.max_tokens, ranks, rank, accumulated, self.seed, draw=draw
        )
        loader = ResumableLoader(dataset, sampler=sampler, **loader_options(self.num_workers, self.seed))
        if self.trainer is not None:
            loader.position = partial(self._position.at_first_batch, self.trainer)
        return loader

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """The validation split by length, every row once over all ranks; nothing where there is none."""
        return self._evaluation_loader("validation") if "validation" in self.splits("validation") else []

    def test_dataloader(self) -> DataLoader[Any]:
        """The test split by length, every row once over all ranks."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """The rows of `predict_source`, else of the test split, by length; `index` tells the row."""
        return self._evaluation_loader(self._predicted())

    def predict_table(self) -> pa.Table:
        """The predicted rows in order, to write predictions beside: `id`, or else `text` (and `text_pair`)."""
        name = self._predicted()
        rows = self.splits(name)[name]
        if rows.ids is not None:
            return pa.table({"id": rows.ids})
        return pa.table({"text": rows.texts} | ({} if rows.pairs is None else {"text_pair": rows.pairs}))

    def state_dict(self) -> dict[str, Any]:
        """Where in the data the training is, as plain numbers."""
        if self.trainer is None or self.trainer.fit_loop.max_batches == float("inf"):
            return {}
        return self._position.state_dict(self.trainer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint was saved."""
        self._position.load_state_dict(state_dict)

    def _splits_of(self, stage: str) -> tuple[str, ...]:
        return (self._predicted(),) if stage == "predict" else STAGES[stage]

    def _predicted(self) -> str:
        return "test" if self.predict_source is None else "predict"

    def _evaluation_loader(self, name: str) -> DataLoader[Any]:
        dataset = self.dataset(name)
        sampler = SortedBatchSampler(dataset.lengths, self.evaluation_max_tokens, *self._ranks())
        return DataLoader(dataset, sampler=sampler, **loader_options(self.num_workers, self.seed))

    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

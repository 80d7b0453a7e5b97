"""Texts with labels: the data module of single-label and multi-label classification and of regression."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from bertlab.data.labels import Problem
from bertlab.data.row_scores import COLUMN, read_scores
from bertlab.data.rows import Columns, TextRows
from bertlab.data.text_data import TextData
from bertlab.data.text_source import TextSource, check_options
from bertlab.data.tokenised import tokenise
from bertlab.data.tokenised_texts import TokenisedTexts
from bertlab.interfaces import PoissonDraw
from bertlab.samplers.class_balanced import ClassBalanced
from bertlab.samplers.poisson import PoissonSampler, poisson_rate
from bertlab.samplers.token_budget import DrawsRows, TokenBudgetSampler


class TextClassificationData(TextData):
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

    Raises:
        ValueError: an argument is out of its range, or two clash; what is wrong with the texts comes with `setup`.
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
        super().__init__(
            tokenizer, label_names, batch_size, max_tokens, evaluation_max_tokens, seed, num_workers,
            predict_source,
        )  # fmt: skip
        fractions = {"validation": validation_fraction, "test": test_fraction}
        check_options(fractions, problem, label_names, resampling_power)
        columns = Columns(text_column, text_pair_column, label_column, id_column)
        self.text_source = TextSource(
            source, files, subset, revision, split_names, columns, problem, label_separator, fractions, split_seed,
            deduplicate, empty_texts,
        )  # fmt: skip
        self.problem: Problem = problem
        self.max_length = max_length
        self.resampling_power = resampling_power
        self._poisson: tuple[int | None] | None = None

    @property
    def num_labels(self) -> int | None:
        """C, the outputs a head needs: the number of classes, 1 for regression; None before it is known."""
        if self.problem == "regression":
            return 1
        return None if self._label_names is None else len(self._label_names)

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

    def read(self) -> dict[str, TextRows]:
        """The rows of every split there is, with labels as numbers."""
        rows, self._label_names = self.text_source.load(self._label_names)
        return rows

    def read_unlabelled(self, path: str) -> TextRows:
        """The rows of a file to predict."""
        return self.text_source.unlabelled(path)

    def tokenised(self, rows: TextRows) -> TokenisedTexts:
        """The rows of a split as token ids."""
        return tokenise(self.tokenizer, rows, self.max_length)

    def drawn(self, dataset: TokenisedTexts) -> DrawsRows | None:
        """Rare classes more often, if asked for."""
        if self.resampling_power <= 0.0:
            return None
        assert dataset.labels is not None
        return ClassBalanced(dataset.labels.numpy(), self.resampling_power, self.seed)

    def draw_poisson(self, entropy: int | None) -> PoissonDraw:
        """Draw each row for each training step by a coin of its own; see `bertlab.interfaces.DrawsPoisson`."""
        if self.batch_size is None or self.max_tokens is not None or self.resampling_power > 0:
            raise ValueError(
                "Poisson samples take data.init_args.batch_size, the expected rows of a step, and neither max_tokens "
                f"nor resampling_power, which look at other rows; got batch_size {self.batch_size}, max_tokens "
                f"{self.max_tokens}, resampling_power {self.resampling_power}"
            )
        self._poisson, rows = (entropy,), len(self.dataset("train"))
        return PoissonDraw(poisson_rate(self.batch_size, rows), rows)

    def end_poisson(self) -> None:
        """Draw as ever again."""
        self._poisson = None

    def train_sampler(self) -> TokenBudgetSampler:
        """The optimizer steps of the training split; Poisson samples, if they are asked for."""
        if self._poisson is None:
            return super().train_sampler()
        assert self.batch_size is not None
        lengths, (entropy,) = self.dataset("train").lengths, self._poisson
        return PoissonSampler(lengths, self.batch_size, *self.shares(), self.seed, entropy)

    def row_scores(self, source: str) -> npt.NDArray[np.float64]:
        """(n,) the score of each training row; see `bertlab.interfaces.HasRowScores`.

        Raises:
            ValueError: there is no such table or column, the rows have no ids, or one has no score.
        """
        rows: TextRows = self.splits("train")["train"]
        if source.startswith(COLUMN):
            return self.text_source.training_column(source.removeprefix(COLUMN), rows)
        return read_scores(source, rows.ids)

    def predict_table(self) -> pa.Table:
        """The predicted rows in order, to write predictions beside: `id`, or else `text` (and `text_pair`)."""
        rows: TextRows = self.predicted_rows()
        if rows.ids is not None:
            return pa.table({"id": rows.ids})
        return pa.table({"text": rows.texts} | ({} if rows.pairs is None else {"text_pair": rows.pairs}))

"""Texts as word-piece ids in flat arrays, packed into batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from bertlab.data.layout import Layout
from bertlab.data.windows import ranges
from bertlab.interfaces import TextBatch
from bertlab.samplers.micro_batch import MicroBatch


class TokenisedTexts(Dataset[TextBatch]):
    """The token ids of n texts (or pairs) in flat arrays, indexed by `MicroBatch`.

    Args:
        input_ids: (N,) int32 ids of all texts one after another.
        offsets: (n + 1,) int64 where each text begins, and where the last one ends.
        token_type_ids: (N,) int8 segments, or None where all are 0.
        truncated: number of texts that were cut to the maximal length.
        labels: (n,) int64 classes, (n, C) float32 multi-hot rows or (n,) float32 targets; None without.
        layout: where special tokens stand; None: texts cannot be shortened.

    Attributes:
        task: name of the task that batches are of, where there are several.
    """

    task: str | None = None

    def __init__(
        self,
        input_ids: npt.NDArray[np.int32],
        offsets: npt.NDArray[np.int64],
        token_type_ids: npt.NDArray[np.int8] | None,
        truncated: int,
        labels: npt.NDArray[Any] | None = None,
        layout: Layout | None = None,
    ) -> None:
        self.input_ids = input_ids
        self.offsets = offsets
        self.token_type_ids = token_type_ids
        self.truncated = truncated
        self.labels: Tensor | None = None if labels is None else torch.from_numpy(labels)
        self.lengths: npt.NDArray[np.int64] = np.diff(offsets)
        self.layout = layout

    def __len__(self) -> int:
        """n, the number of texts."""
        return len(self.lengths)

    def __getitem__(self, part: MicroBatch) -> TextBatch:
        """The packed batch of a micro-batch, its sequences in descending length."""
        return self.batch(part.rows, part.step_rows, part.micro_batches, part.limit)

    def quantities(self, part: MicroBatch) -> dict[str, float]:
        """Of the whole optimizer step that a micro-batch belongs to; see `bertlab.interfaces.StepData`."""
        rows = part.rows if part.step_rows is None else part.step_rows
        found: dict[str, float] = {"sequences": len(rows), "tokens": int(self._left(rows, part.limit).sum())}
        if part.limit is not None:
            found["length"] = min(part.limit, int(self.lengths.max()))
        if part.easiest_share is not None:
            found["easiest_share"] = part.easiest_share
        return found

    @property
    def least_limit(self) -> int | None:
        """Tokens that every row can be cut to; None: rows cannot be cut."""
        return None if self.layout is None else self.layout.least

    def batch(
        self,
        rows: npt.ArrayLike,
        step_rows: npt.ArrayLike | None = None,
        micro_batches: int = 1,
        limit: int | None = None,
    ) -> TextBatch:
        """Pack rows one after another, longest first, without padding.

        Args:
            rows: (S,) rows of this data set; none give an empty batch.
            step_rows: (G,) rows of the whole optimizer step, whose labels go into `step_labels`.
            micro_batches: how many micro-batches the step has over all ranks.
            limit: tokens of a sequence at most; longer ones are cut, their special tokens stay.
        """
        rows = np.asarray(rows, dtype=np.int64)
        rows = rows[np.argsort(-self.lengths[rows], kind="stable")]
        flat, lengths = self._places(rows, limit)
        types = np.zeros(len(flat)) if self.token_type_ids is None else self.token_type_ids[flat]
        index = torch.from_numpy(rows)
        step_labels = None
        if self.labels is not None and step_rows is not None:
            step_labels = self.labels[torch.from_numpy(np.asarray(step_rows, dtype=np.int64))]
        return TextBatch(
            input_ids=torch.from_numpy(self.input_ids[flat].astype(np.int64)),
            token_type_ids=torch.from_numpy(types.astype(np.int64)),
            lengths=torch.from_numpy(lengths),
            index=index,
            labels=None if self.labels is None else self.labels[index],
            step_labels=step_labels,
            micro_batches=micro_batches,
            task=self.task,
        )

    def _left(self, rows: npt.NDArray[np.int64], limit: int | None) -> npt.NDArray[np.int64]:
        """(S,) tokens of rows, after they are cut."""
        return self.lengths[rows] if limit is None else np.minimum(self.lengths[rows], limit)

    def _places(
        self, rows: npt.NDArray[np.int64], limit: int | None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(N,) place of every token of some rows in the flat arrays, and the (S,) tokens of each row."""
        lengths = self.lengths[rows]
        if limit is None or lengths.max() <= limit:
            return ranges(self.offsets[rows], lengths), lengths
        assert self.layout is not None
        seconds = np.zeros_like(lengths)
        if self.layout.between and self.token_type_ids is not None:
            types = self.token_type_ids[ranges(self.offsets[rows], lengths)]
            of_row = np.repeat(np.arange(len(rows)), lengths)
            seconds = np.bincount(of_row[types > 0], minlength=len(rows)) - self.layout.after
        return self.layout.shortened(self.offsets[rows], lengths, seconds, limit)

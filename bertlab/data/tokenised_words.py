"""Sentences as word pieces in flat arrays, with the places of their words, packed into batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bertlab.data.layout import Layout
from bertlab.data.tokenised_texts import TokenisedTexts
from bertlab.data.windows import Numbers, ranges
from bertlab.interfaces import WordBatch


@dataclass(frozen=True)
class Marks:
    """Which places of each of n windows stand for which word.

    Attributes:
        places: (L,) places in their window, ascending in each.
        words: (L,) number of the word in its split.
        offsets: (n + 1,) where the marks of each window begin, and where those of the last one end.
    """

    places: Numbers
    words: Numbers
    offsets: Numbers

    def of(self, windows: Numbers, before: int | None = None) -> tuple[Numbers, Numbers]:
        """The marks of some windows one after another: their numbers, and how many each window has.

        Args:
            windows: their numbers.
            before: only marks at places before this one; None: all.
        """
        counts = self.offsets[windows + 1] - self.offsets[windows]
        found = ranges(self.offsets[windows], counts)
        if before is None:
            return found, counts
        kept = self.places[found] < before
        owner = np.repeat(np.arange(len(windows)), counts)
        return found[kept], np.bincount(owner[kept], minlength=len(windows))


class TokenisedWords(TokenisedTexts):
    """The word pieces of sentences, a long one in several windows, indexed by `MicroBatch`.

    In training all `marks` have a label; in evaluation and prediction each word counts once, at its first piece.

    Args:
        input_ids: (N,) int32 ids of all windows one after another.
        offsets: (n + 1,) int64 where each window begins, and where the last one ends.
        truncated: number of words that are longer than a window and were cut.
        first: the mark of each word's first piece.
        marks: the places that are trained on.
        sentences: (words of the split,) number of each word's sentence.
        labels: (words of the split,) int64 class of each word; None without.
        layout: how many special tokens stand before and after the pieces.
    """

    def __init__(
        self,
        input_ids: npt.NDArray[np.int32],
        offsets: Numbers,
        truncated: int,
        first: Marks,
        marks: Marks,
        sentences: Numbers,
        labels: Numbers | None,
        layout: Layout,
    ) -> None:
        super().__init__(input_ids, offsets, None, truncated, None, layout)
        self.first, self.marks = first, marks
        self.sentences = sentences
        self.word_labels = labels

    @property
    def least_limit(self) -> int:
        """Tokens that every window can be cut to so that a word is left that it answers for."""
        assert self.layout is not None
        first = self.marks.places[self.marks.offsets[:-1]]
        return max(self.layout.least, int(first.max()) + 1 + self.layout.after)

    def batch(
        self,
        rows: npt.ArrayLike,
        step_rows: npt.ArrayLike | None = None,
        micro_batches: int = 1,
        limit: int | None = None,
    ) -> WordBatch:
        """Pack windows one after another, longest first, without padding.

        Args:
            rows: (S,) windows of this data set.
            step_rows: (G,) windows of the whole optimizer step, whose labels go into `step_labels`; None: a batch of
                an evaluation.
            micro_batches: how many micro-batches the step has over all ranks.
            limit: tokens of a window at most; longer ones are cut at their end, and words that begin there are left
                out, with their labels.
        """
        packed = super().batch(rows, None, micro_batches, limit)
        marks = self.first if step_rows is None else self.marks
        assert self.layout is not None
        before = None if limit is None else limit - self.layout.after
        chosen, counts = marks.of(packed.index.numpy(), before)
        ends = packed.lengths.numpy().cumsum()
        starts = ends - packed.lengths.numpy()
        words = marks.words[chosen]
        step_labels = None
        if self.word_labels is not None and step_rows is not None:
            of_step, _ = marks.of(np.asarray(step_rows, dtype=np.int64), before)
            step_labels = torch.from_numpy(self.word_labels[marks.words[of_step]])
        return WordBatch(
            input_ids=packed.input_ids,
            token_type_ids=packed.token_type_ids,
            lengths=packed.lengths,
            index=packed.index,
            labels=None if self.word_labels is None else torch.from_numpy(self.word_labels[words]),
            step_labels=step_labels,
            micro_batches=micro_batches,
            task=self.task,
            places=torch.from_numpy(marks.places[chosen] + np.repeat(starts, counts)),
            words=torch.from_numpy(words),
            sentences=torch.from_numpy(self.sentences[words]),
        )

    def __getitem__(self, part: Any) -> WordBatch:
        """The packed batch of a micro-batch, its windows in descending length."""
        return self.batch(part.rows, part.step_rows, part.micro_batches, part.limit)

"""What tasks are handed: micro-batches of packed sequences, and what an encoder makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor


@dataclass(slots=True)
class TextBatch:
    """One micro-batch of token sequences, packed: sequences stand one after another, without padding.

    Sequences are in order of descending length, so that neighbours are alike in length (attention works on
    runs of them). `index` tells which row of the split each one is.

    Attributes:
        input_ids: (N,) int64 word-piece ids.
        token_type_ids: (N,) int64 segment of each token (0, or 1 for the second text of a pair).
        lengths: (S,) int64 tokens of each sequence, on the CPU whatever the device of the rest.
        index: (S,) int64 row of each sequence in its split.
        labels: (S,) int64 class, (S, C) float multi-hot, or (S,) float target; None where there are none.
        step_labels: (G,), (G, C) or (G,): the labels of the whole optimizer step; None outside training.
            A loss that normalises by them gives the same gradient for one batch, many micro-batches and
            many ranks.
        micro_batches: how many micro-batches, over all ranks, the optimizer step is split into.
        task: name of the task that it is of, where there are several.
    """

    input_ids: Tensor
    token_type_ids: Tensor
    lengths: Tensor
    index: Tensor
    labels: Tensor | None = None
    step_labels: Tensor | None = None
    micro_batches: int = 1
    task: str | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """A copy on `device`; `lengths` stays on the CPU, where its values are read without a sync."""
        moved = {
            name: value.to(device, non_blocking=non_blocking)
            for name, value in self._tensors()
            if name != "lengths"
        }
        return replace(self, **moved)

    def pin_memory(self) -> Self:
        """A copy in page-locked memory (called by `torch.utils.data.DataLoader(pin_memory=True)`)."""
        return replace(self, **{name: value.pin_memory() for name, value in self._tensors()})

    @property
    def size(self) -> int:
        """S, the number of sequences."""
        return self.lengths.shape[0]

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for known in fields(self):
            value = getattr(self, known.name)
            if isinstance(value, Tensor):
                yield known.name, value


@dataclass(slots=True)
class PretrainingBatch(TextBatch):
    """One micro-batch of pretraining examples, packed as a `TextBatch`: input_ids hold the masked texts.

    M counts masked positions. A loss that is normalised by what the whole optimizer step holds gives the same
    gradient for one batch, many micro-batches and many ranks.

    Attributes:
        masked_positions: (M,) int64 places in the packed batch that are to be predicted, ascending; M may be 0.
        masked_labels: (M,) int64 the ids that stood there.
        sentence_labels: (S,) int64 of the sentence task: 1 where the second segment is random (next sentence
            prediction) or the two are swapped (sentence order prediction), else 0; None without such a task.
        step_masked: masked positions of the whole optimizer step.
        step_sequences: sequences of the whole optimizer step.
    """

    masked_positions: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    masked_labels: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    sentence_labels: Tensor | None = None
    step_masked: int = 0
    step_sequences: int = 0


@dataclass(slots=True)
class WordBatch(TextBatch):
    """One micro-batch of sentences whose words have tags, packed as a `TextBatch`.

    A sequence is a sentence, or a window of a long one; every word has its tag in one window only. Tags stand at the
    first piece of a word (in training, if asked for, at all of its pieces).

    Attributes:
        places: (W,) int64 places in the packed batch at which a tag stands, ascending.
        words: (W,) int64 number of the word in its split.
        sentences: (W,) int64 number of the sentence in its split.
        labels: (W,) int64 class of each place; None where there are none.
        step_labels: (G,) the labels of all places of the whole optimizer step; None outside training.
    """

    places: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    words: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    sentences: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))


@dataclass(slots=True)
class MultiTaskBatch:
    """One micro-batch of an optimizer step that is of several tasks, or of one of several.

    Attributes:
        parts: the micro-batch of each task, which it names.
    """

    parts: tuple[TextBatch, ...]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """A copy on `device`."""
        return replace(self, parts=tuple(part.to(device, non_blocking) for part in self.parts))

    def pin_memory(self) -> Self:
        """A copy in page-locked memory."""
        return replace(self, parts=tuple(part.pin_memory() for part in self.parts))

    @property
    def micro_batches(self) -> int:
        """How many micro-batches, over all ranks, the optimizer step is split into."""
        return self.parts[0].micro_batches


class EncoderOutput(NamedTuple):
    """What an encoder makes of a `TextBatch`.

    Attributes:
        hidden: (N, D) last hidden state of every token; (0, D) where only first tokens were asked for.
        first: (S, D) last hidden state of the first token of each sequence.
        pooled: (S, D) output of the encoder's own pooler, None where it has none.
    """

    hidden: Tensor
    first: Tensor
    pooled: Tensor | None

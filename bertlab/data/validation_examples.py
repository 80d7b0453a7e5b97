"""The validation examples of a token store: made once, the same at every validation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from bertlab.corpus.example_stream import ExampleStream
from bertlab.corpus.packed_examples import lengths_of
from bertlab.corpus.pairs import PairRules, texts_of
from bertlab.data.masked_batches import MaskedBatches
from bertlab.interfaces import PretrainingBatch
from bertlab.samplers.micro_batch import MicroBatch, Rows


class ValidationExamples(Dataset[PretrainingBatch]):
    """One pass over held-out documents, or its first `limit` examples, indexed by `MicroBatch`.

    `step_masked` and `step_sequences` of a batch are its own.

    Args:
        batches: makes a batch of examples.
        documents: (n,) int64 documents that are held out.
        rules: of the examples.
        seed: of the examples and their masks.
        limit: examples at most; None: all.
    """

    def __init__(
        self, batches: MaskedBatches, documents: Rows, rules: PairRules, seed: int, limit: int | None
    ) -> None:
        store = batches.store
        stream = ExampleStream(texts_of(store, documents), rules, seed)
        count = stream.examples_per_epoch()
        count = count if limit is None else min(limit, count)
        self.batches = batches
        self.examples, self._keys = stream.examples(0, count), stream.keys(0, count)
        self.lengths: npt.NDArray[np.int64] = lengths_of(self.examples)

    def __len__(self) -> int:
        """How many examples there are."""
        return len(self.lengths)

    def __getitem__(self, part: MicroBatch) -> PretrainingBatch:
        """A batch, its examples in descending length."""
        rows = part.rows[np.argsort(-self.lengths[part.rows], kind="stable")]
        return self.batches.make(self.examples.take(rows), self._keys[rows], rows)

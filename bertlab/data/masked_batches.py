"""From examples of a corpus to masked, packed batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bertlab.corpus.compiled import read_only
from bertlab.corpus.examples import Examples
from bertlab.corpus.masking import MaskRules, mask
from bertlab.corpus.packed_examples import lengths_of, pack
from bertlab.corpus.pairs import NONE
from bertlab.interfaces import PretrainingBatch


@dataclass(frozen=True)
class MaskedBatches:
    """Makes a batch of examples: a function of the examples, their keys and what stands here.

    Attributes:
        store: the token store, which worker processes open themselves.
        cls_id: id of [CLS].
        sep_id: id of [SEP].
        task: NONE, NEXT_SENTENCE or SENTENCE_ORDER of `bertlab.corpus.pairs`.
        rules: of masking.
        word_starts: (V,) whether a piece begins a word; empty where tokens are masked one by one.
    """

    store: Any
    cls_id: int
    sep_id: int
    task: int
    rules: MaskRules
    word_starts: npt.NDArray[np.bool_]

    def rules_at(self, rate: float | None) -> MaskRules:
        """The rules of masking, with a rate of their own where one is given."""
        return self.rules if rate is None else self.rules._replace(rate=rate)

    def make(
        self,
        examples: Examples,
        keys: npt.NDArray[np.uint64],
        index: npt.NDArray[np.int64],
        rate: float | None = None,
    ) -> PretrainingBatch:
        """The batch of these examples, in their order, as a whole optimizer step.

        Args:
            examples: S of them.
            keys: (S,) that their masks are a function of.
            index: (S,) their numbers.
            rate: share of the tokens that is predicted; None: that of the rules.
        """
        ids, types = pack(read_only(self.store.tokens), examples, self.cls_id, self.sep_id)
        places, labels = mask(ids, examples.sizes, keys, read_only(self.word_starts), self.rules_at(rate))
        return PretrainingBatch(
            input_ids=torch.from_numpy(ids),
            token_type_ids=torch.from_numpy(types),
            lengths=torch.from_numpy(lengths_of(examples)),
            index=torch.from_numpy(index),
            masked_positions=torch.from_numpy(places),
            masked_labels=torch.from_numpy(labels),
            sentence_labels=None if self.task == NONE else torch.from_numpy(examples.labels),
            step_masked=len(places),
            step_sequences=len(index),
        )

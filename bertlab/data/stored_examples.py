"""StoredExamples: the training and validation examples of a token store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from lightning.pytorch.utilities import rank_zero_warn

from bertlab.corpus.held_out import hold_out
from bertlab.corpus.masking import MODES, NO_LIMIT, TOKEN, MaskRules
from bertlab.corpus.packed_examples import special_tokens
from bertlab.corpus.pairs import TASKS, PairRules
from bertlab.corpus.token_store import TokenStore
from bertlab.corpus.word_starts import word_starts
from bertlab.data.masked_batches import MaskedBatches
from bertlab.data.tokenised import load_tokenizer
from bertlab.data.training_examples import TrainingExamples
from bertlab.data.validation_examples import ValidationExamples

MOST = 0.5  # share of documents without a next sentence from which on there is a warning
EVALUATION_RATE = 0.15  # of masks in validation, whatever training's is: losses of all runs compare


@dataclass(frozen=True)
class ExampleOptions:
    """What examples are made by: the arguments of `PretrainingData` of these names.

    Attributes:
        lengths: tokens of a sequence at most, special ones included, in each stream of training examples.
    """

    sentence_task: str
    lengths: Sequence[int]
    masking: str
    mask_rate: float
    mask_share: float
    random_share: float
    max_predictions: int | None
    short_fraction: float
    validation_fraction: float
    validation_length: int
    validation_masking: str
    max_validation_examples: int | None
    split_seed: int
    seed: int


class StoredExamples:
    """Opens a token store on first use, holds documents out, and makes examples of the others and of these.

    Args:
        folder: of the store.
        options: of the examples.
    """

    def __init__(self, folder: str, options: ExampleOptions) -> None:
        self.folder, self.options = folder, options

    @cached_property
    def store(self) -> TokenStore:
        """The token store, opened on first use.

        Raises:
            ValueError: there is none, or it is damaged, or of a newer format.
        """
        try:
            return TokenStore.open(self.folder)
        except (OSError, ValueError) as error:
            raise ValueError(f"data.init_args.store: {error}") from error

    @cached_property
    def tokenizer(self) -> Any:
        """The fast tokenizer of transformers that made the store."""
        return load_tokenizer(str(self.store.tokenizer_folder))

    @cached_property
    def documents(self) -> dict[str, npt.NDArray[np.int64]]:
        """The documents of `train` and of `validation`; those of one text are in one of them.

        Raises:
            ValueError: there are too few for the sentence task.
        """
        least = 2 if self.options.sentence_task == "next_sentence" else 1
        share, seed = self.options.validation_fraction, self.options.split_seed
        if self.store.document_texts is None:
            train, held = hold_out(len(self.store.document_starts) - 1, share, seed, least)
            return {"train": train, "validation": held}
        texts, of_document = np.unique(self.store.document_texts, return_inverse=True)
        train, held = hold_out(len(texts), share, seed, least, "texts (long ones are several documents)")
        is_held = np.isin(of_document, held)
        return {"train": np.flatnonzero(~is_held), "validation": np.flatnonzero(is_held)}

    def tokens_and_words(self, split: Literal["train", "validation"]) -> tuple[int, int | None]:
        """Tokens and words of a split's text, special tokens left out; words None where the store has not counted them.

        A loss a token becomes one a word by the factor tokens / words. Words are those of the text before it was cut
        into pieces: runs of characters without white space.
        """
        store, documents = self.store, self.documents[split]
        begins = store.sentence_starts[store.document_starts[documents]]
        ends = store.sentence_starts[store.document_starts[documents + 1]]
        words = None if store.document_words is None else int(store.document_words[documents].sum())
        return int((ends - begins).sum()), words

    @cached_property
    def training(self) -> TrainingExamples:
        """What training draws from: one stream of examples for each run of phases with one length.

        Raises:
            ValueError: no training document has the two sentences that `next_sentence` takes.
        """
        if self.options.sentence_task == "next_sentence":
            check_neighbours(self.store, self.documents["train"])
        rules = [self._pair_rules(length) for length in self.options.lengths]
        limit = self.options.max_predictions or NO_LIMIT
        shares = (self.options.mask_share, self.options.random_share)
        batches = self._batches(MODES[self.options.masking], self.options.mask_rate, limit, *shares)
        return TrainingExamples(batches, self.documents["train"], rules, self.options.seed)

    def remember(self, passes: Mapping[str, Sequence[int]]) -> None:
        """Take what a checkpoint knows of the passes over the corpus, if these are to train; see `TrainingExamples`."""
        if "training" in self.__dict__:
            self.training.remember(passes)

    @cached_property
    def validation(self) -> ValidationExamples:
        """One pass over the held-out documents, masked at a rate of 0.15, 80/10/10."""
        mode = MODES[self.options.validation_masking]
        batches = self._batches(mode, EVALUATION_RATE, NO_LIMIT, 0.8, 0.1)
        rules = self._pair_rules(self.options.validation_length)
        held = self.documents["validation"]
        return ValidationExamples(
            batches, held, rules, self.options.split_seed, self.options.max_validation_examples
        )

    def _batches(
        self, mode: int, rate: float, limit: int, mask_share: float, random_share: float
    ) -> MaskedBatches:
        ids = {name: getattr(self.tokenizer, f"{name}_token_id") for name in ("cls", "sep", "mask")}
        missing = [name for name, number in ids.items() if number is None]
        if missing:
            raise ValueError(
                f"data.init_args.store: the tokenizer in {self.folder} has no {' and no '.join(missing)} token"
            )
        rules = MaskRules(
            mode, rate, limit, mask_share, random_share, ids["mask"], self.store.vocabulary_size
        )
        whole_words = mode != TOKEN
        size = self.store.vocabulary_size
        starts = word_starts(self.tokenizer, size) if whole_words else np.zeros(0, dtype=np.bool_)
        return MaskedBatches(
            self.store, ids["cls"], ids["sep"], TASKS[self.options.sentence_task], rules, starts
        )

    def _pair_rules(self, length: int) -> PairRules:
        task = TASKS[self.options.sentence_task]
        return PairRules(task, length - special_tokens(task), self.options.short_fraction)


def check_neighbours(store: TokenStore, documents: npt.NDArray[np.int64]) -> None:
    """Refuse documents none of which has a next sentence; warn where most have none.

    Args:
        store: of the documents.
        documents: (n,) those that are trained on.

    Raises:
        ValueError: all are of one sentence, so that every pair would be a random one.
    """
    sentences = store.document_starts[documents + 1] - store.document_starts[documents]
    alone = float(np.mean(sentences == 1))
    if alone <= MOST:
        return
    key = "data.init_args.sentence_task: next_sentence"
    instead = "`none` or `sentence_order`, or a corpus whose `sentences` divides its documents"
    if alone == 1.0:
        raise ValueError(
            f"{key}: all {len(documents)} training documents of {store.folder} have one sentence, so none has a next "
            f"one. Accepted: {instead}"
        )
    rank_zero_warn(
        f"{key}: {alone:.0%} of the training documents of {store.folder} have one sentence, and the second of their "
        f"pairs is always of another document. Better: {instead}"
    )

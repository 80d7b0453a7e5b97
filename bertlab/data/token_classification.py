"""Sentences whose words have tags: the data module of named entities and of other sequence labelling."""

from __future__ import annotations

from typing import Any, Literal

import pyarrow as pa
import torch
from torch import Tensor

from bertlab.data.division import check_fractions
from bertlab.data.tag_labels import BrokenSpans
from bertlab.data.text_data import TextData
from bertlab.data.tokenised_words import TokenisedWords
from bertlab.data.word_pieces import LabelPieces, tokenise_words, words_tokenizer
from bertlab.data.word_rows import WordColumns, WordRows
from bertlab.data.word_source import WordSource
from bertlab.tags import Scheme


class TokenClassificationData(TextData):
    """Sentences as lists of words, each with a tag; read, split, tokenised once and packed into batches.

    A sentence of more than `max_length` tokens is divided into windows, each of which answers for some of its words
    and reads others as context: no word is left out, and none counts twice. A word has its label at its first piece
    (Devlin et al. 2019, arXiv:1810.04805, section 5.3).

    Args:
        tokenizer: where the tokenizer comes from: `packaged:<name>`, a folder, or a hub id.
        source: a CoNLL file (conll, txt, tsv, bio, iob, iob2, iobes), a table with lists of words and tags (jsonl,
            parquet), a folder with files train, validation, test, `packaged:<name>`, or a hub id.
        files: instead of `source`, the file of each split: `{train: …, validation: …, test: …}`.
        subset: configuration of a hub data set.
        revision: commit, tag or branch of a hub data set.
        split_names: hub splits that serve as train, validation and test.
        word_column: of a table, column of the lists of words.
        tag_column: of a table, column of the lists of tags.
        conll_word: of a CoNLL file, column of the word, counted from 0, or from the last by −1.
        conll_tag: of a CoNLL file, column of the tag.
        id_column: of a table, column of an id without duplicates, which predictions are written with.
        scheme: in which the tags say entities: bio (IOB2), iob1 (read as bio), iobes; none: tags by themselves, such
            as parts of speech.
        broken_spans: whether tags that do not follow from each other, such as I-x after O, are taken for what
            conlleval counts them as, with a warning, or refused.
        label_names: tags in the order of their ids; null: the hub's own, else those of the types in the training
            split, O first.
        validation_fraction: share of the training sentences that becomes the validation split where there is none.
        test_fraction: the same for the test split.
        split_seed: of that division.
        deduplicate: take equal sentences once only, and out of the training split those of the other splits.
        empty_sentences: whether a sentence without a word is an error, or its row is dropped (never in
            predict_source).
        max_length: tokens of a sentence or window at most, special ones included.
        window_context: word pieces that a window of a divided sentence reads on either side as context, at most.
        label_pieces: whether training has the label of a word at its first piece, or at all of its pieces;
            evaluation and prediction take the first.
        batch_size: sentences (windows) of an optimizer step at most, over all ranks and accumulated micro-batches;
            null: no limit but `max_tokens`.
        max_tokens: tokens of an optimizer step at most, over all ranks and accumulated micro-batches.
        evaluation_max_tokens: tokens of a batch of validation, test and prediction at most.
        seed: of the order of the training sentences; None: that of the run where there is one, else 0.
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
        word_column: str = "words",
        tag_column: str = "tags",
        conll_word: int = 0,
        conll_tag: int = -1,
        id_column: str | None = None,
        scheme: Scheme = "bio",
        broken_spans: BrokenSpans = "repair",
        label_names: list[str] | None = None,
        validation_fraction: float = 0.1,
        test_fraction: float = 0.1,
        split_seed: int = 0,
        deduplicate: bool = False,
        empty_sentences: Literal["error", "drop"] = "error",
        max_length: int = 128,
        window_context: int = 24,
        label_pieces: LabelPieces = "first",
        batch_size: int | None = 32,
        max_tokens: int | None = None,
        evaluation_max_tokens: int = 8192,
        seed: int | None = None,
        num_workers: int = 0,
        predict_source: str | None = None,
    ) -> None:
        super().__init__(
            tokenizer, label_names, batch_size, max_tokens, evaluation_max_tokens, seed, num_workers,
            predict_source,
        )  # fmt: skip
        fractions = {"validation": validation_fraction, "test": test_fraction}
        check_fractions(fractions)
        columns = WordColumns(word_column, tag_column, id_column)
        self.word_source = WordSource(
            source, files, subset, revision, split_names, columns, conll_word, conll_tag, scheme, broken_spans,
            fractions, split_seed, deduplicate, empty_sentences,
        )  # fmt: skip
        self.scheme: Scheme = scheme
        self.max_length, self.window_context = max_length, window_context
        self.label_pieces: LabelPieces = label_pieces

    @property
    def tokenizer(self) -> Any:
        """The fast tokenizer of transformers, loaded on first use and set to take words."""
        if self._tokenizer is None:
            self._tokenizer = words_tokenizer(super().tokenizer)
        return self._tokenizer

    @property
    def num_labels(self) -> int | None:
        """C, the outputs a head needs; None before it is known."""
        return None if self._label_names is None else len(self._label_names)

    def class_counts(self) -> Tensor:
        """(C,) int64: words of the training split with each tag."""
        if self._label_names is None:
            raise ValueError("There are no tags to count: the data was not read yet.")
        labels = self.dataset("train").word_labels
        assert labels is not None
        return torch.bincount(torch.from_numpy(labels), minlength=len(self._label_names))

    def read(self) -> dict[str, WordRows]:
        """The sentences of every split there is, with classes of words as labels."""
        rows, self._label_names = self.word_source.load(self._label_names)
        return rows

    def read_unlabelled(self, path: str) -> WordRows:
        """The sentences of a file to predict."""
        return self.word_source.unlabelled(path)

    def tokenised(self, rows: WordRows) -> TokenisedWords:
        """The sentences of a split as word pieces in windows."""
        return tokenise_words(self.tokenizer, rows, self.max_length, self.window_context, self.label_pieces)

    def dataset(self, name: str) -> TokenisedWords:
        """The tokenised sentences of `train`, `validation`, `test` or `predict`.

        Raises:
            ValueError: there is no such split.
        """
        dataset = super().dataset(name)
        assert isinstance(dataset, TokenisedWords)
        return dataset

    def predict_table(self) -> pa.Table:
        """The predicted sentences in order, to write predictions beside: `id` where there are ids, and `words`."""
        rows: WordRows = self.predicted_rows()
        words = {"words": pa.array(rows.words, pa.list_(pa.string()))}
        return pa.table(words if rows.ids is None else {"id": rows.ids, **words})

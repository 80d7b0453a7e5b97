"""VocabularyExtension: new word pieces for a trained model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from bertlab.sources.extended_tokenizer import extend_tokenizer, next_id, old_spelling, read_new_pieces

INNER = re.compile("dense|norm|transform", re.IGNORECASE)  # parts of a head that are not over the vocabulary
PADDED_ROWS = 127  # a table may be padded to a multiple of at most 128


@dataclass(frozen=True)
class VocabularyExtension:
    """What is needed to give a model, its head and its tokenizer the same new pieces.

    The row of a new piece is the mean of the rows of the old pieces it was split into, which is where the model had its
    meaning before: Yao et al. 2021 (arXiv:2106.13474, section 3), Hong et al. 2021 (AVocaDo, arXiv:2110.13434). A
    piece that the old vocabulary could not write at all ([UNK]) starts at the mean of all rows (Hewitt 2021,
    "Initializing new word embeddings for pretrained language models"), which bounds how far it moves the softmax. The
    decoder's bias is treated in the same way; a tied decoder follows the embedding.

    Attributes:
        tokenizer: with the new pieces.
        first_id: of the new pieces.
        old_pieces: for each new piece the ids it was split into; empty where it could not be written.
    """

    tokenizer: Any
    first_id: int
    old_pieces: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, tokenizer: Any, new_pieces: str | Sequence[str]) -> Self:
        """Extend a tokenizer.

        Args:
            tokenizer: a fast WordPiece tokenizer; it is left as it is.
            new_pieces: pieces, a file with one on each line, or a folder with an extended tokenizer.

        Raises:
            FileNotFoundError: there is no such file or folder.
            ValueError: a piece can never occur, or the folder's tokenizer is no extension.
        """
        pieces = read_new_pieces(new_pieces, tokenizer)
        spelled = tuple(tuple(old_spelling(tokenizer, piece)) for piece in pieces)
        return cls(extend_tokenizer(tokenizer, pieces), next_id(tokenizer), spelled)

    def rows(self, table: Tensor) -> Tensor:
        """A table over the vocabulary, with the new pieces.

        Args:
            table: (V, …) embedding, or (V,) bias. Rows after the old pieces, if it has any (padding of the table to a
                round size), are taken for the new ones first.

        Returns:
            (max(V, first_id + new pieces), …): what stood in the rows of old pieces still stands there.

        Raises:
            ValueError: the table has fewer rows than there are old pieces, or so many more that the tokenizer must be
                that of another model.
        """
        if not 0 <= table.shape[0] - self.first_id <= PADDED_ROWS:
            raise ValueError(
                f"new_pieces: the model has {table.shape[0]} rows for the {self.first_id} pieces of its tokenizer; "
                f"accepted: as many, or up to {PADDED_ROWS} more"
            )
        old = table[: self.first_id].double()
        every = old.mean(0)
        means = [old[list(ids)].mean(0) if ids else every for ids in self.old_pieces]
        if not means:
            return table.clone()
        new = torch.stack(means).to(table.dtype)
        return torch.cat([table[: self.first_id], new, table[self.first_id + len(new) :]])

    def head(self, weights: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
        """The weights of a pretraining head, those over the vocabulary with the new pieces.

        Args:
            weights: under their names in transformers.
            rows: of the word embedding before it was extended; a decoder and its bias have as many.
        """
        return {
            name: self.rows(weight) if weight.shape[:1] == (rows,) and not INNER.search(name) else weight
            for name, weight in weights.items()
        }

    @torch.no_grad()
    def apply(self, model: PreTrainedModel) -> None:
        """Give a model of transformers the new pieces, in place: its embedding, decoder, tie and configuration.

        Raises:
            ValueError: its embedding does not fit the tokenizer.
        """
        words, decoder = _tables(model)
        rows = self.rows(words.weight)
        bias: Any = getattr(decoder, "bias", None)
        weight: Any = getattr(decoder, "weight", None)
        biases = None if bias is None else self.rows(bias)
        outputs = None if weight is None or weight is words.weight else self.rows(weight)
        holders = _holders(model, bias)
        if rows.shape[0] != words.num_embeddings:
            model.resize_token_embeddings(rows.shape[0], mean_resizing=False)
        words, decoder = _tables(model)
        _fill(words.weight, rows)
        if outputs is not None:
            _fill(decoder.weight, outputs)
        if biases is not None:
            # transformers ties the bias when it resizes even where nothing was tied, and then does not store it.
            for name in _holders(model, decoder.bias) - holders:
                path, _, leaf = name.rpartition(".")
                setattr(model.get_submodule(path), leaf, nn.Parameter(biases.clone()))
            _fill(decoder.bias, biases)


def _tables(model: PreTrainedModel) -> tuple[nn.Embedding, Any]:
    """The word embedding, and the decoder or None."""
    words = model.get_input_embeddings()
    assert isinstance(words, nn.Embedding)
    return words, model.get_output_embeddings()


def _holders(model: nn.Module, parameter: Any) -> set[str]:
    """All names that a parameter has in a model."""
    named = model.named_parameters(remove_duplicate=False)
    return {name for name, value in named if value is parameter}


def _fill(parameter: Any, value: Tensor) -> None:
    parameter.copy_(value)

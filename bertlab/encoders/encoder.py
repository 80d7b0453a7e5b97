"""Encoder: what every encoder of this package is, wherever its weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from bertlab.encoders.adapters import Adapters, add_adapters
from bertlab.encoders.blocks import blocks_of
from bertlab.encoders.compiled import compile_layers
from bertlab.encoders.dropout import swap_dropout
from bertlab.encoders.initializer import Initializer
from bertlab.encoders.packing import Packing, pack
from bertlab.encoders.padded import run_padded
from bertlab.encoders.padding_free import (
    make_padding_free,
    position_offset,
    run_packed,
    takes,
    word_embedding,
)
from bertlab.encoders.pooler import pooled, pooler_at_rest
from bertlab.encoders.two_parts import can_be_divided, packed_layers, run_lower, run_upper
from bertlab.encoders.word_table import swap_word_table
from bertlab.interfaces import Block, EncoderOutput, TextBatch, Trunk
from bertlab.row_multiple import row_multiple

# Share of padding that attention takes on, on an accelerator, to have few, large products.
MAX_WASTE = 0.75


class Encoder(nn.Module):
    """A BERT-type model of transformers that works on packed batches.

    Where the model takes our attention (found out by comparing, when it is made, what it says of two packed
    sequences with what it says of each alone) no padding exists: every layer works on real tokens only. Other
    models are run on padded tensors, with the same result.

    Args:
        model: of `transformers.AutoModel`; it is put into train mode.
        padding_free: False: always run on padded tensors.
        initializer: draws a part of the model anew; None: as transformers does.
    """

    #: while several tasks are put over it, none of which may take from it what another uses.
    shared: bool = False

    def __init__(
        self, model: PreTrainedModel, padding_free: bool = True, initializer: Initializer | None = None
    ) -> None:
        super().__init__()
        self.model = model.eval()
        swap_dropout(model)
        swap_word_table(model, word_embedding(model))
        self._offset = position_offset(model)
        self._takes_types = takes(model, "token_type_ids")
        self.padding_free = padding_free and make_padding_free(model, self.max_length)
        self._layers = tuple(packed_layers(model))
        #: whether it can be run in two parts, divided between any two of its layers.
        self.divisible = can_be_divided(model)
        self._initializer = initializer or Initializer(model)
        self._blocks = tuple(blocks_of(model, self._initializer))
        #: what `add_adapters` has put in.
        self.adapters: Adapters | None = None
        self.train()

    @property
    def config(self) -> PreTrainedConfig:
        """The configuration of the model."""
        return self.model.config

    @property
    def hidden_size(self) -> int:
        """D."""
        return int(self.config.hidden_size)

    @property
    def vocabulary_size(self) -> int:
        """V: rows of the word embedding."""
        return word_embedding(self.model).num_embeddings

    @property
    def max_length(self) -> int:
        """Tokens of the longest sequence that the model takes."""
        return int(self.config.max_position_embeddings) - self._offset

    @property
    def word_embedding(self) -> nn.Embedding:
        """The table of the word pieces, (V, E); E is D but for encoders that project it, such as ELECTRA."""
        return word_embedding(self.model)

    @property
    def has_pooler(self) -> bool:
        """Whether it gives a pooled output."""
        return getattr(self.model, "pooler", None) is not None

    def head_weights(self) -> Mapping[str, Tensor]:
        """The tensors of its checkpoint that are of a head, under the names of transformers; none here.

        Names are those of the model with a head, such as "cls.predictions.bias".
        """
        return {}

    def drop_pooler(self) -> None:
        """Take the pooler away, for a head that does not use it.

        DDP takes a trained parameter that gets no gradient for a fault. It stays while the encoder is `shared`.
        """
        if self.shared:
            return
        model: Any = self.model
        if getattr(model, "pooler", None) is not None:
            model.pooler = None
            self._blocks = tuple(blocks_of(self.model, self._initializer))

    def add_adapters(self, settings: Mapping[str, Any], generator: torch.Generator) -> Adapters:
        """Put adapters beside linear layers; once, asked again for the same it leaves them as they are.

        Args:
            settings: of `bertlab.encoders.adapters.settings_of`.
            generator: decides about their first weights.

        Raises:
            ValueError: it has other adapters already; see `bertlab.encoders.adapters.add_adapters`.
        """
        if self.adapters is None:
            self.adapters = add_adapters(self.model, self._blocks, settings, generator)
        elif self.adapters.settings != settings:
            raise ValueError(
                f"the encoder has adapters already ({self.adapters.settings}), and cannot have others ({settings})"
            )
        return self.adapters

    def compile_layers(self, backend: str = "inductor") -> None:
        """Compile the layers in place, their attention where that can be; see `bertlab.encoders.compiled`.

        Raises:
            ValueError: they are not built as BERT's.
        """
        if not self._layers:
            raise ValueError(
                f"run.compile takes encoders whose layers are built as BERT's and run without padding (BERT, RoBERTa, "
                f"ELECTRA), got {type(self.model).__name__}: set it to false"
            )
        compile_layers(self._layers, backend)

    def blocks(self) -> list[Block]:
        """The blocks from the embeddings up; the top one has depth 1, since a head has 0."""
        return list(self._blocks)

    def lower(self, batch: TextBatch, blocks: int) -> Tensor:
        """The first part of a run: what the lowest blocks give, for `forward` to go on from.

        Args:
            batch: of texts.
            blocks: how many, the embeddings included; at least the last layer is left to go on with.

        Returns:
            (N, D) hidden states of every token.

        Raises:
            ValueError: the model cannot be divided there; as `forward`.
        """
        if not self.divisible or not 1 <= blocks <= len(self._layers):
            raise ValueError(
                f"{type(self.model).__name__} cannot be divided above its {blocks} lowest blocks; "
                + (f"it takes 1 to {len(self._layers)}" if self.divisible else "it has no layers like BERT's")
            )
        self._check(batch)
        packing = self._packing(batch)
        return run_lower(lambda: self._all_layers(batch, packing), self._layers[blocks - 1], packing)

    def forward(
        self,
        batch: TextBatch,
        first_only: bool = False,
        positions: Tensor | None = None,
        trunk: Trunk | None = None,
        pool: bool = True,
    ) -> EncoderOutput:
        """Hidden states of a packed batch.

        Args:
            batch: of texts.
            first_only: only `first` and `pooled` are needed. `hidden` is then empty, (0, D), and the last layer
                of a BERT-type model skips the other tokens.
            positions: (P,) places in the packed batch. `hidden` is then that of these tokens, (P, D), in their
                order, and the last layer of a BERT-type model skips most of its work on the others.
            trunk: what `lower` gave for this batch; only the blocks above it are run. None: all are.
            pool: False: `pooled` is None, and the pooler is not run.

        Raises:
            ValueError: a sequence is empty or longer than `max_length`; an id is beyond the vocabulary.
        """
        self._check(batch)
        packing = self._packing(batch, first_only, positions)
        if trunk is not None:
            hidden = run_upper(self._layers[trunk.blocks - 1 :], trunk.values, packing)
        else:
            hidden = self._all_layers(batch, packing)
        if positions is not None:
            if not self._layers:
                hidden = hidden.index_select(0, torch.cat([packing.starts, positions]))
            first, hidden = hidden[: batch.size + len(positions)].split([batch.size, len(positions)])
            return EncoderOutput(hidden, first, self.pooled(first) if pool else None)
        skipped = first_only and hidden.shape[0] == batch.size
        first = hidden if skipped else hidden.index_select(0, packing.starts)
        hidden = hidden[:0] if first_only else hidden
        return EncoderOutput(hidden, first, self.pooled(first) if pool else None)

    def pooled(self, first: Tensor) -> Tensor | None:
        """The output of the pooler for (S, D) hidden states of first tokens; None where it has none."""
        return pooled(self.model, first)

    def _packing(
        self, batch: TextBatch, first_only: bool = False, positions: Tensor | None = None
    ) -> Packing:
        device = batch.input_ids.device
        max_waste = None if device.type == "cpu" else MAX_WASTE
        return pack(batch.lengths, device, max_waste, first_only, positions, self._multiple())

    def _all_layers(self, batch: TextBatch, packing: Packing) -> Tensor:
        types = batch.token_type_ids if self._takes_types else None
        with nullcontext() if self.adapters is None else pooler_at_rest(self.model):
            if not self.padding_free:
                return run_padded(self.model, batch.input_ids, types, packing)
            return run_packed(self.model, batch.input_ids, types, packing.positions + self._offset, packing)

    def _multiple(self) -> int:
        """What the rows of a batch are made up to a multiple of."""
        return row_multiple(self.word_embedding.weight) if self._layers else 1

    def _check(self, batch: TextBatch) -> None:
        longest, shortest = int(batch.lengths.max()), int(batch.lengths.min())
        if shortest < 1 or longest > self.max_length:
            raise ValueError(
                f"a sequence has {shortest if shortest < 1 else longest} tokens; the encoder takes 1 to "
                f"{self.max_length} (data.init_args.max_length)"
            )
        # On an accelerator this would wait for the device; there the task compares the sizes beforehand.
        if batch.input_ids.device.type == "cpu" and int(batch.input_ids.max()) >= self.vocabulary_size:
            raise ValueError(
                f"a token has the id {int(batch.input_ids.max())}, the embedding of the encoder has only "
                f"{self.vocabulary_size} rows: take the tokenizer of the encoder (data.init_args.tokenizer)"
            )

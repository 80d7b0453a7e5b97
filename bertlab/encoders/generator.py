"""The generator of replaced-token detection: a small encoder that shares its embeddings with a large one."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModel, ElectraConfig

from bertlab.encoders.encoder import Encoder

SHARED_TABLES = ("position_embeddings", "token_type_embeddings")


def small_generator(encoder: Encoder, fraction: float) -> Encoder:
    """A fresh ELECTRA encoder of as many layers as `encoder`, narrower, with the same embeddings.

    Clark et al. 2020, arXiv:2003.10555, sections 3.2 and 3.3: hidden size, feed-forward size and number of heads
    are a fraction of the discriminator's, token and position embeddings are shared, and a linear layer
    projects them to the generator's width.

    Args:
        encoder: the discriminator. Its position and segment embeddings are shared where it has tables of the
            same kind as BERT's; its word embeddings always are.
        fraction: of the discriminator's width, in (0, 1]; the paper takes 1/4 to 1/2.

    Raises:
        ValueError: `fraction` is out of range.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"model.init_args.generator_fraction takes a number in (0, 1], got {fraction}")
    theirs: Any = encoder.config
    table = encoder.word_embedding
    heads = max(1, round(theirs.num_attention_heads * fraction))
    width = heads * max(1, round(encoder.hidden_size * fraction / heads))
    config = ElectraConfig(
        vocab_size=table.num_embeddings,
        embedding_size=table.embedding_dim,
        hidden_size=width,
        num_hidden_layers=theirs.num_hidden_layers,
        num_attention_heads=heads,
        intermediate_size=max(
            1, round(getattr(theirs, "intermediate_size", 4 * encoder.hidden_size) * fraction)
        ),
        max_position_embeddings=encoder.max_length,
        type_vocab_size=max(2, getattr(theirs, "type_vocab_size", 2)),
        hidden_dropout_prob=getattr(theirs, "hidden_dropout_prob", 0.1),
        attention_probs_dropout_prob=getattr(theirs, "attention_probs_dropout_prob", 0.1),
        pad_token_id=table.padding_idx if table.padding_idx is not None else theirs.pad_token_id,
    )
    generator = Encoder(AutoModel.from_config(config, dtype=torch.float32), encoder.padding_free)
    _share_embeddings(generator, encoder)
    return generator


def _share_embeddings(generator: Encoder, encoder: Encoder) -> None:
    generator.word_embedding.weight = encoder.word_embedding.weight
    mine: Any = generator.model.embeddings
    theirs = getattr(encoder.model, "embeddings", None)
    for name in SHARED_TABLES:
        ours, table = getattr(mine, name), getattr(theirs, name, None)
        # RoBERTa's positions begin later, so its table is longer and means something else.
        if table is not None and table.weight.shape == ours.weight.shape:
            ours.weight = table.weight

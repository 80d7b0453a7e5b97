"""Tiny configurations of every type of encoder, and batches for them."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModel, PreTrainedModel

from bertlab.interfaces import TextBatch

VOCABULARY = 100
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
    "type_vocab_size": 2,
    "pad_token_id": 0,
}


def _without(*names: str, **more: Any) -> dict[str, Any]:
    return {name: value for name, value in _COMMON.items() if name not in names} | more


CONFIGS: dict[str, dict[str, Any]] = {
    "bert": _COMMON,
    "roberta": _without(pad_token_id=1),
    "distilbert": {
        "vocab_size": VOCABULARY, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64, "pad_token_id": 0,
        "max_position_embeddings": 66,
    },
    "electra": _without(embedding_size=16),
    "modernbert": _without(
        "type_vocab_size", local_attention=8, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
        attention_dropout=0.1, mlp_dropout=0.1, embedding_dropout=0.1,
    ),
    "albert": _without(embedding_size=16, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1),
    "deberta-v2": _without(
        relative_attention=True, pos_att_type=["p2c", "c2p"], norm_rel_ebd="layer_norm", position_buckets=8,
        share_att_key=True,
    ),
    "mpnet": _without("type_vocab_size", pad_token_id=1),
}  # fmt: skip
PACKED = ["bert", "roberta", "distilbert", "electra", "modernbert", "albert"]
POOLERS = ["bert", "roberta", "albert", "mpnet"]
LENGTHS = [40, 23, 22, 9, 9, 9, 3, 1]


def transformer(model_type: str, attention: str = "eager", **changes: Any) -> PreTrainedModel:
    """A model of transformers, its normalisations and biases away from their first values."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **(CONFIGS[model_type] | changes))
    model = AutoModel.from_config(config, dtype=torch.float32, attn_implementation=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def batch(lengths: list[int] | None = None, types: bool = True, seed: int = 0) -> TextBatch:
    """A packed batch of random words, in order of descending length."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor(LENGTHS if lengths is None else lengths)
    total = int(counts.sum())
    ids = torch.randint(5, VOCABULARY, (total,), generator=generator)
    kinds = torch.randint(2, (total,), generator=generator) if types else torch.zeros_like(ids)
    return TextBatch(ids, kinds, counts, torch.arange(len(counts)))


def padded_inputs(packed: TextBatch, pad: int, types: bool) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """What transformers is given for the same batch, and which places hold tokens (B, T)."""
    real = torch.arange(int(packed.lengths.max())) < packed.lengths[:, None]
    ids = torch.full(real.shape, pad)
    ids[real] = packed.input_ids
    inputs = {"input_ids": ids, "attention_mask": real.long()}
    if types:
        kinds = torch.zeros_like(ids)
        kinds[real] = packed.token_type_ids
        inputs["token_type_ids"] = kinds
    return inputs, real

"""EncoderFromConfig: a fresh encoder."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from bertlab.encoders.dropout_settings import set_dropout
from bertlab.encoders.encoder import Encoder
from bertlab.encoders.initializer import Initializer, draw_truncated

# Fields that a configuration of transformers does not declare, but its model reads.
UNDECLARED = {
    "deberta-v2": {"norm_rel_ebd", "position_buckets", "share_att_key", "conv_kernel_size", "conv_act"},
    "modernbert": {"global_attn_every_n_layers", "local_attention", "global_rope_theta", "local_rope_theta"},
}


class EncoderFromConfig(Encoder):
    """An encoder with random weights, drawn from torch's generator as transformers draws them.

    Args:
        model_type: of transformers: bert, roberta, distilbert, electra, modernbert, ….
        config: fields of that type's configuration, such as hidden_size; those left out have transformers'
            defaults.
        dropout: of the hidden states, in [0, 1); None: as the configuration says.
        attention_dropout: of the attention probabilities, in [0, 1); None: as the configuration says.
        padding_free: False: run on padded tensors, as transformers does.
        truncated_normal: True: draw the first weights as google-research/bert does, from a normal distribution that is
            cut off at twice its deviation (`initializer_range`), which makes them 12 % smaller; padding has a row like
            any other. For types that have `initializer_range`.

    Raises:
        ValueError: there is no such type, or a field is unknown to it or has a wrong value.
    """

    def __init__(
        self,
        model_type: str,
        config: dict[str, Any] | None = None,
        dropout: float | None = None,
        attention_dropout: float | None = None,
        padding_free: bool = True,
        truncated_normal: bool = False,
    ) -> None:
        settings = _config(model_type, config or {})
        set_dropout(settings, dropout, attention_dropout)
        model = _build(model_type, settings)
        initializer = Initializer(model, truncated_normal)
        if truncated_normal:
            for module in model.modules():
                draw_truncated(module, model.config.initializer_range)
        super().__init__(model, padding_free, initializer)


def _config(model_type: str, fields: dict[str, Any]) -> PreTrainedConfig:
    try:
        known = AutoConfig.for_model(model_type)
    except ValueError as error:
        raise ValueError(
            f"encoder.model_type: {model_type!r} is not known to transformers; accepted: bert, roberta, "
            "distilbert, electra, modernbert, albert, deberta-v2, mpnet and others"
        ) from error
    undeclared = UNDECLARED.get(model_type, set())
    unknown = sorted(name for name in fields if not hasattr(known, name) and name not in undeclared)
    if unknown:
        raise ValueError(
            f"encoder.config: a {model_type} has no {unknown}; its fields: {sorted(known.to_dict())}"
        )
    try:
        return AutoConfig.for_model(model_type, **fields)
    except Exception as error:  # transformers checks types with an exception class of another library
        raise ValueError(f"encoder.config: {fields} is no {model_type}: {error}") from error


def _build(model_type: str, settings: PreTrainedConfig) -> PreTrainedModel:
    try:
        return AutoModel.from_config(settings, dtype=torch.float32)
    except (AssertionError, ValueError) as error:  # the embedding asserts that its padding is a row
        raise ValueError(f"encoder.config: {settings.to_diff_dict()} is no {model_type}: {error}") from error

"""The names that dropout has in the configurations of transformers."""

from __future__ import annotations

from transformers import PreTrainedConfig

HIDDEN = ("hidden_dropout_prob", "dropout", "embedding_dropout", "mlp_dropout", "hidden_dropout")
ATTENTION = ("attention_probs_dropout_prob", "attention_dropout")


def set_dropout(config: PreTrainedConfig, hidden: float | None, attention: float | None) -> None:
    """Set the dropout of a configuration, in place.

    ModernBERT's attention dropout also acts on what its attention gives out, as in transformers.

    Args:
        config: of an encoder.
        hidden: of the hidden states, in [0, 1); None: left as it is.
        attention: of the attention probabilities, in [0, 1); None: left as it is.

    Raises:
        ValueError: a value is out of range, or the configuration has no such dropout.
    """
    for key, value, names in (("dropout", hidden, HIDDEN), ("attention_dropout", attention, ATTENTION)):
        if value is None:
            continue
        if not 0 <= value < 1:
            raise ValueError(f"encoder.{key} takes a share in [0, 1), got {value}")
        present = [name for name in names if hasattr(config, name)]
        if not present:
            raise ValueError(f"encoder.{key}: a {config.model_type} has none; leave it out (got {value})")
        for name in present:
            setattr(config, name, value)

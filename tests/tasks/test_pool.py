from __future__ import annotations

import pytest

from bertlab.encoders.from_config import EncoderFromConfig
from bertlab.tasks.sequence_classification import SequenceClassification

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


@pytest.mark.parametrize(("pool", "has_pooler"), [("pooled", True), ("first", False), ("mean", False)])
def test_a_pooler_that_the_head_does_not_use_is_taken_away(pool: str, has_pooler: bool) -> None:
    """It would get no gradient, which DDP takes for a fault."""
    encoder = EncoderFromConfig("bert", SIZES)
    task = SequenceClassification(encoder, pool=pool, label_names=["ham", "spam"])  # type: ignore[arg-type]
    assert ("pooler" in [block.name for block in encoder.blocks()]) is has_pooler
    assert any("pooler" in name for name, _ in task.named_parameters()) is has_pooler

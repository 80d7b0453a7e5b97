"""Fresh encoders from fields of a configuration."""

from __future__ import annotations

import pytest
import torch

from bertlab.encoders.from_config import EncoderFromConfig
from tests.encoders.tiny import CONFIGS, batch


@pytest.mark.parametrize("model_type", CONFIGS)
def test_every_type(model_type: str):
    encoder = EncoderFromConfig(model_type, CONFIGS[model_type], dropout=0.2, attention_dropout=0.3)
    assert encoder.training
    assert (encoder.hidden_size, encoder.vocabulary_size) == (32, 100)
    assert encoder(batch(types=False)).first.shape == (8, 32)


def test_weights_follow_the_seed():
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in EncoderFromConfig("bert", CONFIGS["bert"]).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_an_unknown_type_is_refused():
    with pytest.raises(
        ValueError, match=r"encoder.model_type: 'berta' is not known to transformers; accepted: bert"
    ):
        EncoderFromConfig("berta")


def test_an_unknown_field_is_refused():
    with pytest.raises(
        ValueError, match=r"encoder.config: a bert has no \['hiden_size'\]; its fields: .*hidden_size"
    ):
        EncoderFromConfig("bert", {"hiden_size": 32})


@pytest.mark.parametrize(
    "fields", [{"hidden_size": "large"}, {"hidden_size": 30, "num_attention_heads": 4}, {"pad_token_id": 100}]
)
def test_a_wrong_value_is_refused(fields: dict[str, object]):
    with pytest.raises(ValueError, match=r"encoder.config: .* is no bert"):
        EncoderFromConfig("bert", CONFIGS["bert"] | fields)


def test_truncated_normal_weights():
    torch.manual_seed(0)
    settings = CONFIGS["bert"] | {"hidden_size": 128, "intermediate_size": 256, "initializer_range": 0.05}
    encoder = EncoderFromConfig("bert", settings, truncated_normal=True)
    matrices = [p for p in encoder.parameters() if p.dim() == 2]
    drawn = torch.cat([p.detach().flatten() for p in matrices])
    assert len(matrices) == 3 + 3 * 6 + 1
    assert drawn.abs().max() <= 0.1
    # The deviation of a normal distribution that is cut off at two deviations is 0.8796 of it.
    assert drawn.std().item() == pytest.approx(0.8796 * 0.05, rel=0.01)
    assert drawn.mean().item() == pytest.approx(0, abs=0.001)
    assert encoder.model.get_input_embeddings().weight[0].abs().sum() > 0  # the padding's row too
    assert all(not p.any() for name, p in encoder.named_parameters() if name.endswith("bias"))


def test_truncated_normal_without_a_deviation():
    with pytest.raises(ValueError, match=r"encoder.truncated_normal: a t5 has no initializer_range"):
        EncoderFromConfig("t5", {"d_model": 8, "num_layers": 1}, truncated_normal=True)

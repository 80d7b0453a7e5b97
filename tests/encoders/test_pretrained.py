"""Encoders from checkpoints: what loads, what is refused, and how it is said."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, BartConfig, BertConfig

from bertlab.encoders.pretrained import PretrainedEncoder
from bertlab.interfaces import TextBatch
from bertlab.sources.models import model_folder
from tests.doubles.evil import Evil
from tests.encoders.tiny import CONFIGS, batch, padded_inputs, transformer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    transformer("bert").save_pretrained(tmp_path)
    return tmp_path


def change_weights(folder: Path, drop: str = "", **replace: torch.Tensor) -> None:
    path = folder / "model.safetensors"
    weights = {
        name: value for name, value in load_file(path).items() if not drop or not name.startswith(drop)
    }
    save_file(weights | replace, path, metadata={"format": "pt"})


def test_loads_in_train_mode_in_float32(folder: Path):
    half = transformer("bert").to(torch.bfloat16)
    half.save_pretrained(folder)
    encoder = PretrainedEncoder(str(folder))
    assert all(module.training for module in encoder.modules())
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    assert encoder.padding_free
    assert (encoder.hidden_size, encoder.vocabulary_size, encoder.max_length) == (32, 100, 66)


def test_says_what_transformers_says(folder: Path):
    packed = batch()
    inputs, real = padded_inputs(packed, 0, types=True)
    with torch.no_grad():
        expected = AutoModel.from_pretrained(folder)(**inputs)
        found = PretrainedEncoder(str(folder)).eval()(packed)
    torch.testing.assert_close(found.hidden, expected.last_hidden_state[real], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.pooled, expected.pooler_output, atol=1e-5, rtol=1e-5)


def test_a_masked_language_model_has_no_pooler(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    AutoModelForMaskedLM.from_config(BertConfig(**CONFIGS["bert"])).save_pretrained(tmp_path)
    with caplog.at_level(logging.INFO, logger="bertlab"):
        encoder = PretrainedEncoder(str(tmp_path))
    assert encoder(batch()).pooled is None
    assert [block.name for block in encoder.blocks()][-1] == "layer.2"
    assert not any("pooler" in name for name, _ in encoder.named_parameters())
    assert "has no pooler" in caplog.text
    assert "cls.predictions" in caplog.text


@pytest.mark.parametrize(
    ("model_type", "key"),
    [
        ("bert", "hidden_dropout_prob"),
        ("distilbert", "dropout"),
        ("modernbert", "mlp_dropout"),
        ("deberta-v2", "hidden_dropout_prob"),
    ],
)
def test_dropout_can_be_set(tmp_path: Path, model_type: str, key: str):
    transformer(model_type).save_pretrained(tmp_path)
    encoder = PretrainedEncoder(str(tmp_path), dropout=0.25, attention_dropout=0.5)
    assert getattr(encoder.config, key) == 0.25
    shares = {module.p for module in encoder.modules() if isinstance(module, torch.nn.Dropout)}
    assert {0.25, 0.5} <= shares
    assert 0.1 not in shares


@pytest.mark.parametrize(("argument", "value"), [("dropout", 1.0), ("attention_dropout", -0.1)])
def test_dropout_out_of_range(folder: Path, argument: str, value: float):
    with pytest.raises(ValueError, match=rf"encoder.{argument} takes a share in \[0, 1\), got {value}"):
        PretrainedEncoder(str(folder), **{argument: value})


def test_missing_weights_are_refused(folder: Path):
    change_weights(folder, drop="encoder.layer.1.attention.self.query")
    with pytest.raises(
        ValueError, match=r"(?s)encoder.source.*missing weights: .*layer.1.attention.self.query"
    ):
        PretrainedEncoder(str(folder))


def test_weights_of_another_shape_are_refused(folder: Path):
    change_weights(folder, **{"embeddings.word_embeddings.weight": torch.zeros(7, 32)})
    with pytest.raises(ValueError, match=r"(?s)encoder.source.*word_embeddings"):
        PretrainedEncoder(str(folder))


def test_a_truncated_checkpoint_is_refused(folder: Path):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"(?s)encoder.source: cannot load .*Accepted: a folder"):
        PretrainedEncoder(str(folder))


def test_pickled_weights_are_not_read(folder: Path):
    path = folder / "model.safetensors"
    torch.save(load_file(path), folder / "pytorch_model.bin")
    path.unlink()
    with pytest.raises(ValueError, match=r"(?s)encoder.source: cannot load .*safetensors"):
        PretrainedEncoder(str(folder))


def test_a_malicious_pickle_is_not_executed(folder: Path, tmp_path: Path):
    (folder / "model.safetensors").unlink()
    torch.save(
        {"embeddings.word_embeddings.weight": Evil(tmp_path / "executed")}, folder / "pytorch_model.bin"
    )
    with pytest.raises(ValueError, match=r"(?s)encoder.source: cannot load .*safetensors"):
        PretrainedEncoder(str(folder))
    assert not (tmp_path / "executed").exists()


def test_code_that_comes_with_a_checkpoint_is_not_run(folder: Path, tmp_path: Path):
    (folder / "mine.py").write_text(
        f"open({str(tmp_path / 'executed')!r}, 'w')\nclass Config: ...\nclass Model: ...\n"
    )
    path = folder / "config.json"
    own = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | own))
    with pytest.raises(ValueError, match=r"(?s)encoder.source: cannot read .*Accepted: a folder"):
        PretrainedEncoder(str(folder))
    assert not (tmp_path / "executed").exists()


def test_a_folder_without_config(tmp_path: Path):
    with pytest.raises(
        ValueError, match=r"(?s)encoder.source: cannot read .*Accepted: a folder with config.json"
    ):
        PretrainedEncoder(str(tmp_path))


def test_an_unknown_type(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no_such_type"}))
    with pytest.raises(ValueError, match=r"(?s)encoder.source: cannot read .*no_such_type"):
        PretrainedEncoder(str(tmp_path))


def test_a_model_with_a_decoder(tmp_path: Path):
    BartConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a bart with a decoder, not an encoder alone"):
        PretrainedEncoder(str(tmp_path))


def test_a_hub_id_without_network(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"(?s)encoder.source: cannot read 'nobody/no-such-model'.*Accepted"):
        PretrainedEncoder("nobody/no-such-model")


def test_a_path_that_is_not_there():
    with pytest.raises(FileNotFoundError, match="/no/such/folder is not a folder"):
        PretrainedEncoder("/no/such/folder")


@pytest.mark.packaged
def test_minilm_says_what_transformers_says():
    source = "packaged:minilm_l6_v2"
    texts = ["a packed batch has no padding at all, whatever the lengths", "one more text", "short"]
    tokenizer = AutoTokenizer.from_pretrained(model_folder(source))
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    real = inputs["attention_mask"].bool()
    packed = TextBatch(
        inputs["input_ids"][real], inputs["token_type_ids"][real], real.sum(1), torch.arange(len(texts))
    )
    encoder = PretrainedEncoder(source).eval()
    with torch.no_grad():
        expected = AutoModel.from_pretrained(model_folder(source)).eval()(**inputs)
        found, first = encoder(packed), encoder(packed, first_only=True)
    torch.testing.assert_close(found.hidden, expected.last_hidden_state[real], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.pooled, expected.pooler_output, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(first.pooled, expected.pooler_output, atol=1e-5, rtol=1e-5)
    assert [block.name for block in encoder.blocks()] == [
        "embeddings", *(f"layer.{i}" for i in range(6)), "pooler",
    ]  # fmt: skip
    assert (encoder.hidden_size, encoder.vocabulary_size, encoder.max_length) == (384, 30522, 512)

"""Google's checkpoints: the whole way from files that TensorFlow wrote to a model of transformers and of ours."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoTokenizer, BertForPreTraining

from bertlab.encoders.pretrained import PretrainedEncoder
from bertlab.interfaces import TextBatch
from bertlab.sources.google_checkpoint import read_google_checkpoint, read_google_config
from bertlab.sources.google_conversion import convert_google_checkpoint, is_google_folder
from bertlab.sources.google_vocabulary import lowers_case, read_vocabulary
from bertlab.sources.models import model_folder
from tests.google_bert import CONFIG, VOCABULARY, all_values, shapes, write_beside
from tests.google_forward import forward
from tests.sources.bundle_writer import bundle

HERE = Path(__file__).parent
FOLDERS = [HERE / "google_tiny", HERE / "google_tiny_parts"]
IDS, TYPES = [2, 20, 21, 26, 3, 9, 10, 30, 3], [0, 0, 0, 0, 0, 1, 1, 1, 1]


@pytest.fixture
def google(tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(FOLDERS[0], tmp_path / "model")


def rewrite(folder: Path, without: str = "\0", **changed: np.ndarray) -> None:
    """Another checkpoint in the place of the one that is there."""
    for path in folder.glob("bert_model.ckpt*"):
        path.unlink()
    values = {name: value for name, value in all_values(slots=False).items() if not name.startswith(without)}
    bundle(folder / "bert_model.ckpt", values | {k.replace("__", "/"): v for k, v in changed.items()})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_the_converted_model_computes_what_google_s_code_does(folder: Path, tmp_path: Path):
    convert_google_checkpoint(folder, tmp_path / "converted")
    model, found = BertForPreTraining.from_pretrained(tmp_path / "converted", output_loading_info=True)
    assert {key: list(value) for key, value in found.items() if value} == {}
    assert model.training is False
    with torch.no_grad():
        said = model(
            input_ids=torch.tensor([IDS]), token_type_ids=torch.tensor([TYPES]), output_hidden_states=True
        )
    hidden, words, sentence = forward(all_values(), IDS, TYPES, layers=2, heads=2)
    np.testing.assert_allclose(said.hidden_states[-1][0], hidden, atol=2e-6)
    np.testing.assert_allclose(said.prediction_logits[0], words, atol=5e-6)
    np.testing.assert_allclose(said.seq_relationship_logits[0], sentence, atol=2e-6)


def test_a_folder_of_google_s_is_a_source():
    source = str(FOLDERS[0])
    encoder = PretrainedEncoder(source).eval()
    batch = TextBatch(torch.tensor(IDS), torch.tensor(TYPES), torch.tensor([len(IDS)]), torch.tensor([0]))
    with torch.no_grad():
        said = encoder(batch)
    hidden, _, _ = forward(all_values(), IDS, TYPES, layers=2, heads=2)
    np.testing.assert_allclose(said.hidden, hidden, atol=2e-6)
    assert said.pooled is not None
    tokenizer = AutoTokenizer.from_pretrained(model_folder(source))
    assert tokenizer.is_fast
    assert tokenizer.model_max_length == CONFIG["max_position_embeddings"]
    assert [tokenizer.convert_ids_to_tokens(i) for i in range(len(tokenizer))] == VOCABULARY
    assert tokenizer.convert_ids_to_tokens(tokenizer("The CAB, bading 中é")["input_ids"]) == [
        "[CLS]", "the", "cab", ",", "bad", "##ing", "中", "e", "[SEP]",
    ]  # fmt: skip


def test_the_source_is_converted_once_and_again_when_it_changes(google: Path):
    first = Path(model_folder(str(google)))
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    assert Path(model_folder(str(google))) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp
    rewrite(google, bert__pooler__dense__bias=np.zeros(8, np.float32))
    second = Path(model_folder(str(google)))
    assert second != first
    with safe_open(second / "model.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("bert.pooler.dense.bias"), torch.zeros(8))


def test_the_weights_have_the_names_of_transformers(google: Path):
    config, weights = read_google_checkpoint(google)
    model = BertForPreTraining(config)
    model.load_state_dict(weights, strict=True)
    assert weights["cls.predictions.decoder.weight"] is weights["bert.embeddings.word_embeddings.weight"]
    assert {value.dtype for value in weights.values()} == {torch.float32}
    assert len(weights) == len(shapes()) + 2  # the decoder and its bias, which are tied
    expected = all_values()["bert/encoder/layer_1/output/dense/kernel"]
    np.testing.assert_array_equal(weights["bert.encoder.layer.1.output.dense.weight"], expected.T)


def test_the_configuration(google: Path):
    config = read_google_config(google)
    assert (config.hidden_act, config.layer_norm_eps) == ("gelu_new", 1e-12)
    given = {name: value for name, value in CONFIG.items() if name != "hidden_act"}
    assert {name: getattr(config, name) for name in given} == given


def test_a_checkpoint_without_heads(google: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    rewrite(google, without="cls/", output_weights=np.zeros((3, 8), np.float32))
    with caplog.at_level(logging.INFO, logger="bertlab"):
        _, weights = read_google_checkpoint(google)
    assert not any(name.startswith("cls") for name in weights)
    assert "left in the checkpoint" in caplog.text
    assert "output_weights" in caplog.text
    assert PretrainedEncoder(str(google)).hidden_size == 8


@pytest.mark.parametrize(
    ("without", "named"),
    [
        (
            "bert/encoder/layer_1/attention/self/query/kernel",
            "bert.encoder.layer.1.attention.self.query.weight",
        ),
        ("cls/predictions/output_bias", "cls.predictions.bias"),
        ("bert/pooler", "bert.pooler.dense.bias"),
    ],
)
def test_missing_variables_are_named(google: Path, without: str, named: str):
    rewrite(google, without=without)
    with pytest.raises(
        ValueError, match=rf"(?s)bert_model.ckpt.index: \d weights .* are missing, first.*{named}"
    ):
        read_google_checkpoint(google)


def test_a_vocabulary_of_another_size_than_the_embedding(google: Path):
    settings = CONFIG | {"vocab_size": 40}
    (google / "bert_config.json").write_text(json.dumps(settings))
    with pytest.raises(
        ValueError, match=r"'bert/embeddings/word_embeddings' has the shape \(31, 8\).*vocab_size is 40"
    ):
        read_google_checkpoint(google)


def test_another_shape_is_named(google: Path):
    (google / "bert_config.json").write_text(json.dumps(CONFIG | {"intermediate_size": 16}))
    with pytest.raises(
        ValueError, match=r"'bert/encoder/layer_0/intermediate/dense/bias' .*intermediate_size 16"
    ):
        read_google_checkpoint(google)


def test_a_checkpoint_of_tensorflow_2_objects(google: Path):
    for path in google.glob("bert_model.ckpt*"):
        path.unlink()
    names = ["_CHECKPOINTABLE_OBJECT_GRAPH", "model/layer-0/.ATTRIBUTES/VARIABLE_VALUE"]
    bundle(google / "ckpt-1", {name: np.zeros(2, np.float32) for name in names})
    with pytest.raises(ValueError, match=r"ckpt-1.index: an object-based checkpoint of TensorFlow 2"):
        read_google_checkpoint(google)


def test_which_checkpoint_of_a_folder(google: Path):
    for path in google.glob("bert_model.ckpt*"):
        path.rename(google / path.name.replace("bert_model.ckpt", "model.ckpt-1000"))
    assert len(read_google_checkpoint(google)[1]) == len(shapes()) + 2
    shutil.copy(google / "model.ckpt-1000.index", google / "model.ckpt-2000.index")
    with pytest.raises(
        ValueError, match=r"several checkpoints \(model.ckpt-1000, model.ckpt-2000\); leave one"
    ):
        read_google_checkpoint(google)
    for path in google.glob("model.ckpt*"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no bert_model.ckpt.index here"):
        read_google_checkpoint(google)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "bert_config.json: no JSON"),
        ("[]", "bert_config.json: hidden_size, num_hidden_layers, .*: a whole number is needed"),
        (json.dumps(CONFIG | {"vocab_size": "31"}), "bert_config.json: vocab_size: a whole number is needed"),
        (json.dumps(CONFIG | {"hidden_act": "swish"}), "hidden_act: 'swish'; accepted: gelu, relu"),
        (json.dumps(CONFIG | {"num_attention_heads": 3}), "bert_config.json: The hidden size"),
    ],
)
def test_a_wrong_configuration(google: Path, content: str, message: str):
    (google / "bert_config.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_google_checkpoint(google)


def test_a_checkpoint_without_configuration(google: Path):
    (google / "bert_config.json").unlink()
    with pytest.raises(ValueError, match=r"a TensorFlow checkpoint without bert_config.json"):
        model_folder(str(google))


def test_what_is_a_google_folder(google: Path, tmp_path: Path):
    assert is_google_folder(google)
    assert not is_google_folder(tmp_path)
    (google / "config.json").write_text("{}")
    assert not is_google_folder(google)


def test_nothing_is_left_of_a_failed_conversion(
    google: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BERTLAB_CACHE", str(tmp_path / "cache"))
    data = google / "bert_model.ckpt.data-00000-of-00001"
    whole = data.read_bytes()
    data.write_bytes(whole[:-4000])
    with pytest.raises(ValueError, match="cut off"):
        model_folder(str(google))
    assert [p for p in (tmp_path / "cache").rglob("*") if p.suffix != ".lock" and p.is_file()] == []
    data.write_bytes(whole)
    assert (Path(model_folder(str(google))) / "model.safetensors").exists()


def test_a_full_folder_is_not_written_over(google: Path, tmp_path: Path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        convert_google_checkpoint(google, tmp_path / "here")
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([*VOCABULARY, "more"], r"32 word pieces, but the word embedding has 31 rows"),
        ([*VOCABULARY[:-1], "the"], r"\['the'\] are there more than once"),
        ([p for p in VOCABULARY if p != "[MASK]"], r"without \[MASK\]"),
    ],
)
def test_a_wrong_vocabulary(google: Path, pieces: list[str], message: str):
    (google / "vocab.txt").write_text("\n".join(pieces) + "\n")
    with pytest.raises(ValueError, match=message):
        model_folder(str(google))


def test_a_vocabulary_file_that_is_none(google: Path):
    (google / "vocab.txt").write_bytes("\n".join(VOCABULARY).encode("latin-1", "replace"))
    with pytest.raises(ValueError, match=r"vocab.txt: not UTF-8"):
        read_vocabulary(google, 31)
    (google / "vocab.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"vocab.txt: there is no such file"):
        model_folder(str(google))


def test_a_padded_embedding_and_foreign_line_ends(tmp_path: Path):
    pieces = [*VOCABULARY[:5], "a\u2028b", "c"]
    (tmp_path / "vocab.txt").write_bytes("\r\n".join(pieces).encode())
    assert read_vocabulary(tmp_path, 8) == pieces
    with pytest.raises(ValueError, match="7 word pieces, but the word embedding has 135 rows"):
        read_vocabulary(tmp_path, 135)


@pytest.mark.parametrize(
    ("name", "pieces", "settings", "lowers"),
    [
        ("uncased_L-12_H-768_A-12", ["the"], None, True),
        ("cased_L-12_H-768_A-12", ["the"], None, False),
        ("multi_cased_L-12_H-768_A-12", ["the"], None, False),
        ("multilingual_L-12_H-768_A-12", ["the"], None, True),
        ("chinese_L-12_H-768_A-12", ["中", "T"], None, True),
        ("wwm_uncased_L-24_H-1024_A-16", ["the"], None, True),
        ("scibert", ["the", "[CLS]"], None, True),
        ("biobert_v1.1", ["The", "##RNA"], None, False),
        ("uncased_L-12", ["the"], {"do_lower_case": False}, False),
        ("cased_L-12", ["The"], {"do_lower_case": True}, True),
        ("model", ["The"], {"other": 1}, False),
    ],
)
def test_whether_texts_are_lowercased(
    tmp_path: Path, name: str, pieces: list[str], settings: object, lowers: bool
):
    folder = tmp_path / name
    folder.mkdir()
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert lowers_case(folder, pieces) is lowers


def test_a_wrong_do_lower_case(tmp_path: Path):
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": "yes"}')
    with pytest.raises(ValueError, match="do_lower_case: 'yes'; accepted: true, false"):
        lowers_case(tmp_path, ["the"])


def test_the_fixtures_files_are_those_of_the_script(tmp_path: Path):
    write_beside(tmp_path)
    for folder in FOLDERS:
        for name in ("bert_config.json", "vocab.txt"):
            assert (folder / name).read_bytes() == (tmp_path / name).read_bytes()

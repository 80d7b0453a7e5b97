"""New pieces in a trained model: their rows, the decoder, and all that must stay as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertConfig, BertForPreTraining, BertModel

from bertlab.encoders.pretrained import PretrainedEncoder
from bertlab.encoders.vocabulary_extension import VocabularyExtension
from bertlab.interfaces import TextBatch
from tests.tokenizers import write_tokenizer

PIECES = ["good", "film", "co", "##vi", "##d", "call", "##s", "re", "##run"]
NEW = ["covid", "##runs", "zzz"]


def config(size: int) -> BertConfig:
    return BertConfig(
        vocab_size=size, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pretrained BERT whose decoder has a bias."""
    torch.manual_seed(0)
    model = BertForPreTraining(config(write_tokenizer(tmp_path, PIECES)))
    with torch.no_grad():
        model.cls.predictions.bias.normal_()
    model.save_pretrained(tmp_path)
    return tmp_path


def batch(tokenizer, *texts: str) -> TextBatch:
    rows = sorted((tokenizer(text)["input_ids"] for text in texts), key=len, reverse=True)
    ids = torch.tensor([i for row in rows for i in row])
    return TextBatch(
        ids, torch.zeros_like(ids), torch.tensor([len(r) for r in rows]), torch.arange(len(rows))
    )


def test_rows_are_the_means_of_the_old_pieces(folder: Path):
    old, new = PretrainedEncoder(str(folder)), PretrainedEncoder(str(folder), new_pieces=NEW)
    before = old.model.get_input_embeddings().weight
    after = new.model.get_input_embeddings().weight
    size = before.shape[0]
    assert new.vocabulary_size == new.config.vocab_size == size + 3
    assert torch.equal(after[:size], before)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    covid = tokenizer.convert_tokens_to_ids(["co", "##vi", "##d"])
    runs = tokenizer.convert_tokens_to_ids(["##run", "##s"])
    torch.testing.assert_close(after[size], before[covid].mean(0))
    torch.testing.assert_close(after[size + 1], before[runs].mean(0))
    torch.testing.assert_close(after[size + 2], before.mean(0))


def test_texts_without_new_pieces_mean_what_they_did(folder: Path):
    old = PretrainedEncoder(str(folder)).eval()
    new = PretrainedEncoder(str(folder), new_pieces=NEW).eval()
    assert new.extension is not None
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = ("good film call", "calls re")
    with torch.no_grad():
        torch.testing.assert_close(
            new(batch(new.extension.tokenizer, *texts)).hidden, old(batch(tokenizer, *texts)).hidden
        )
        said = new(batch(new.extension.tokenizer, "covid reruns zzz"))
    assert said.hidden.shape == (6, 8)


@pytest.mark.parametrize("tie", [True, False])
def test_the_decoder_follows(folder: Path, tie: bool, tmp_path_factory: pytest.TempPathFactory):
    model = BertForPreTraining.from_pretrained(folder)
    if not tie:
        torch.manual_seed(1)
        settings = config(model.config.vocab_size)
        settings.tie_word_embeddings = False
        model = BertForPreTraining(settings)
        with torch.no_grad():
            model.cls.predictions.decoder.bias.normal_()
    model.eval()
    words = model.get_input_embeddings().weight.clone()
    decoder, bias = (
        t.clone() for t in (model.get_output_embeddings().weight, model.get_output_embeddings().bias)
    )
    ids = torch.tensor([[2, 5, 6, 7, 3]])
    before = model(ids).prediction_logits
    extension = VocabularyExtension.of(AutoTokenizer.from_pretrained(folder), NEW)
    extension.apply(model)
    out = model.get_output_embeddings()
    size = len(words)
    assert (out.weight is model.get_input_embeddings().weight) is tie
    assert out.out_features == model.config.vocab_size == size + 3
    torch.testing.assert_close(out.weight[:size], decoder)
    torch.testing.assert_close(out.weight[size], decoder[list(extension.old_pieces[0])].mean(0))
    torch.testing.assert_close(out.bias[:size], bias)
    torch.testing.assert_close(out.bias[size + 1], bias[list(extension.old_pieces[1])].mean(0))
    after = model(ids).prediction_logits
    torch.testing.assert_close(after[..., :size], before)
    # The logit of a new piece is the mean of those of its old ones.
    torch.testing.assert_close(after[..., size], before[..., list(extension.old_pieces[0])].mean(-1))
    saved = tmp_path_factory.mktemp("saved")
    model.save_pretrained(saved)
    loaded, found = BertForPreTraining.from_pretrained(saved, output_loading_info=True)
    assert not any(found.values())
    torch.testing.assert_close(loaded(ids).prediction_logits, after)


def test_the_head_of_the_checkpoint_follows(folder: Path):
    old, new = PretrainedEncoder(str(folder)), PretrainedEncoder(str(folder), new_pieces=NEW)
    before, after = old.head_weights(), new.head_weights()
    assert set(before) == set(after) >= {"cls.predictions.bias", "cls.predictions.transform.dense.weight"}
    assert new.extension is not None
    for name, weight in before.items():
        wanted = new.extension.rows(weight) if name == "cls.predictions.bias" else weight
        assert torch.equal(after[name], wanted)
    assert (
        len(after["cls.predictions.bias"]) == len(before["cls.predictions.bias"]) + 3 == new.vocabulary_size
    )


def test_padded_rows_are_taken_first(folder: Path):
    torch.manual_seed(0)
    size = write_tokenizer(folder, PIECES)
    model = BertModel(config(size + 2))
    words = model.get_input_embeddings().weight.clone()
    extension = VocabularyExtension.of(AutoTokenizer.from_pretrained(folder), ["covid"])
    extension.apply(model)
    after = model.get_input_embeddings().weight
    assert len(after) == model.config.vocab_size == size + 2
    assert torch.equal(after[:size], words[:size])
    torch.testing.assert_close(after[size], words[list(extension.old_pieces[0])].mean(0))
    assert torch.equal(after[size + 1], words[size + 1])


def test_a_tokenizer_s_folder_names_the_new_pieces(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    new = PretrainedEncoder(str(folder), new_pieces=NEW)
    assert new.extension is not None
    store = tmp_path_factory.mktemp("store")
    new.extension.tokenizer.save_pretrained(store)
    again = PretrainedEncoder(str(folder), new_pieces=str(store))
    assert again.extension is not None
    assert again.extension.old_pieces == new.extension.old_pieces
    assert torch.equal(again.model.get_input_embeddings().weight, new.model.get_input_embeddings().weight)


def test_nothing_new_changes_nothing(folder: Path):
    encoder = PretrainedEncoder(str(folder), new_pieces=["good"])
    assert encoder.vocabulary_size == len(PIECES) + 5
    assert encoder.extension is not None
    assert encoder.extension.old_pieces == ()
    assert PretrainedEncoder(str(folder)).extension is None


def test_a_checkpoint_without_a_tokenizer(tmp_path: Path):
    BertModel(config(20)).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"encoder.new_pieces: no tokenizer to add the pieces to can be read from"
    ):
        PretrainedEncoder(str(tmp_path), new_pieces=["covid"])


def test_a_model_that_is_smaller_than_its_tokenizer(folder: Path):
    extension = VocabularyExtension.of(AutoTokenizer.from_pretrained(folder), NEW)
    for rows in (9, 142):
        with pytest.raises(ValueError, match=f"the model has {rows} rows for the 14 pieces of its tokenizer"):
            extension.apply(BertModel(config(rows)))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.integers(1, 6), padded=st.integers(0, 3), columns=st.none() | st.integers(1, 3),
    pieces=st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=5),
)  # fmt: skip
def test_rows_of_any_table(rows: int, padded: int, columns: int | None, pieces: list[list[int]]):
    table = torch.randn(rows + padded, *(() if columns is None else (columns,)))
    spelled = tuple(tuple(i % rows for i in piece) for piece in pieces)
    found = VocabularyExtension(None, rows, spelled).rows(table)
    assert found.shape == (max(rows + padded, rows + len(pieces)), *table.shape[1:])
    assert torch.equal(found[:rows], table[:rows])
    assert torch.equal(found[rows + len(pieces) :], table[rows + len(pieces) :])
    for place, ids in enumerate(spelled):
        members = [table[i] for i in ids] or list(table[:rows])
        torch.testing.assert_close(found[rows + place], sum(members) / len(members), atol=1e-6, rtol=1e-5)

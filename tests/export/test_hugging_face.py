"""Export and back: transformers finds everything, says the same, and bertlab takes it up again."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertForPreTraining,
    BertForSequenceClassification,
    BertTokenizer,
)

from bertlab.corpus.vocabulary import read_pieces
from bertlab.encoders.pretrained import PretrainedEncoder
from bertlab.export.hugging_face import export_hugging_face
from bertlab.export.several_tasks import export_tasks
from bertlab.interfaces import WordBatch
from bertlab.sources.models import model_folder
from bertlab.tasks.pretraining import Pretraining
from tests.encoders.tiny import padded_inputs
from tests.tasks.test_pretraining_step import HAS_TYPES, TYPES, built, gradients
from tests.tasks.tiny import tiny_task as tiny_classifier
from tests.tasks.tiny_mixture import tiny_mixture
from tests.tasks.tiny_pretraining import Language, padded, tiny_encoder, tiny_task
from tests.tasks.tiny_words import NAMES, tiny_tagger

STEP = Language(16).step(torch.arange(16))


def reloaded(cls, folder):
    model, info = cls.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    return model.eval()


def test_bert_for_pretraining_gives_the_same_loss(tmp_path):
    task = built(tiny_task("mlm_nsp"))
    export_hugging_face(task, None, tmp_path / "out")
    model = reloaded(BertForPreTraining, tmp_path / "out")
    inputs = padded(STEP[0], 0, types=True) | {"next_sentence_label": STEP[0].sentence_labels}
    loss, _ = gradients(task.eval(), STEP)
    assert float(model(**inputs).loss) == pytest.approx(loss, abs=1e-5)
    again = tiny_task("mlm_nsp", encoder=PretrainedEncoder(str(tmp_path / "out"), 0.0, 0.0))
    again.head = again.build_head()
    assert gradients(again, STEP)[0] == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize("model_type", TYPES)
def test_masked_language_models_go_out_and_come_back(model_type, tmp_path):
    task = built(tiny_task("mlm", model_type)).eval()
    export_hugging_face(task, None, tmp_path / "out")
    model = reloaded(AutoModelForMaskedLM, tmp_path / "out")
    loss, _ = gradients(task, STEP)
    inputs = padded(STEP[0], model.config.pad_token_id, types=model_type in HAS_TYPES)
    assert float(model(**inputs).loss) == pytest.approx(loss, abs=2e-5)
    again = tiny_task("mlm", encoder=PretrainedEncoder(str(tmp_path / "out")))
    again.head = again.build_head()
    assert gradients(again.eval(), STEP)[0] == pytest.approx(loss, abs=1e-6)


def test_a_head_that_the_checkpoint_lacks_is_made_and_tied(tmp_path):
    tiny_encoder().model.save_pretrained(tmp_path / "bare")
    encoder = PretrainedEncoder(str(tmp_path / "bare"))
    task = tiny_task("mlm", encoder=encoder)
    task.head = task.build_head()
    assert task.heads.masked_lm.decoder.weight is encoder.word_embedding.weight
    assert not task.heads.masked_lm.decoder.bias.any()


def test_half_a_head_is_refused(tmp_path):
    task = built(tiny_task("mlm_nsp"))
    export_hugging_face(task, None, tmp_path / "out")

    class Half(PretrainedEncoder):
        def head_weights(self):
            return {n: w for n, w in super().head_weights().items() if n != "cls.predictions.bias"}

    broken = tiny_task("mlm", encoder=Half(str(tmp_path / "out")))
    with pytest.raises(ValueError, match=r"does not fit; missing: \['cls.predictions.bias'\]"):
        broken.build_head()


def test_replaced_tokens(tmp_path):
    for model_type, name in (("electra", "ElectraForPreTraining"), ("bert", "BertModel")):
        task = built(tiny_task("replaced_tokens", model_type))
        assert type(export_hugging_face(task, None, tmp_path / model_type)).__name__ == name
        encoder = PretrainedEncoder(str(tmp_path / model_type))
        assert torch.equal(encoder.word_embedding.weight, task.encoder.word_embedding.weight)
    again = tiny_task("replaced_tokens", encoder=PretrainedEncoder(str(tmp_path / "electra")))
    again.head = again.build_head()
    first = built(tiny_task("replaced_tokens", "electra"))
    assert torch.equal(again.heads.replaced.output.weight, first.heads.replaced.output.weight)


def test_classifier_says_the_same_and_knows_its_labels(tmp_path):
    task = tiny_classifier(label_names=["ham", "spam", "news"]).eval()
    task.head = task.build_head().eval()
    export_hugging_face(task, None, tmp_path / "out")
    model = reloaded(BertForSequenceClassification, tmp_path / "out")
    assert model.config.id2label == {0: "ham", 1: "spam", 2: "news"}
    assert model.config.label2id == {"ham": 0, "spam": 1, "news": 2}
    assert model.config.problem_type == "single_label_classification"
    batch = Language(9).batch(torch.arange(9))
    inputs, _ = padded_inputs(batch, 0, types=True)
    torch.testing.assert_close(model(**inputs).logits, task(batch), rtol=1e-5, atol=1e-6)


def test_regression(tmp_path):
    task = tiny_classifier(problem="regression")
    task.head = task.build_head()
    export_hugging_face(task, None, tmp_path / "out")
    model = reloaded(BertForSequenceClassification, tmp_path / "out")
    assert (model.config.num_labels, model.config.problem_type) == (1, "regression")


@pytest.mark.parametrize("model_type", ["bert", "roberta", "electra", "distilbert", "albert", "deberta-v2"])
def test_tagger_says_the_same_and_knows_its_tags(model_type, tmp_path):
    task = tiny_tagger(encoder=tiny_encoder(model_type), label_names=list(NAMES)).eval()
    task.head = task.build_head().eval()
    export_hugging_face(task, None, tmp_path / "out")
    model = reloaded(AutoModelForTokenClassification, tmp_path / "out")
    assert model.config.id2label == dict(enumerate(NAMES))
    batch = Language(9).batch(torch.arange(9))
    words = WordBatch(batch.input_ids, batch.token_type_ids, batch.lengths, batch.index)
    words.places = torch.arange(1, int(batch.lengths.sum()), 3)
    inputs, real = padded_inputs(
        batch, model.config.pad_token_id, types=model_type in HAS_TYPES | {"deberta-v2"}
    )
    torch.testing.assert_close(model(**inputs).logits[real][words.places], task(words), rtol=1e-4, atol=1e-5)


def test_tagger_of_a_type_that_transformers_builds_otherwise(tmp_path):
    task = tiny_tagger(encoder=tiny_encoder("modernbert"), label_names=list(NAMES))
    task.head = task.build_head()
    with pytest.raises(ValueError, match=r"writes taggers of albert, bert, .* the encoder is a modernbert"):
        export_hugging_face(task, None, tmp_path / "out")


def test_what_transformers_does_not_have_is_refused_and_leaves_nothing(tmp_path):
    task = tiny_classifier(label_names=["ham", "spam"], pool="mean")
    task.head = task.build_head()
    with pytest.raises(ValueError, match="got pool 'mean' of a bert without a pooler"):
        export_hugging_face(task, None, tmp_path / "out")
    strange = Pretraining(tiny_encoder("deberta-v2"), "mlm")
    strange.head = strange.build_head()
    with pytest.raises(ValueError, match="the encoder is a deberta-v2"):
        export_hugging_face(strange, None, tmp_path / "out")
    (tmp_path / "taken").mkdir()
    with pytest.raises(FileExistsError, match="taken is there already"):
        export_hugging_face(task, None, tmp_path / "taken")

    class Full:
        def save_pretrained(self, folder):
            raise OSError("no space left on device")

    good = built(tiny_task("mlm"))
    with pytest.raises(OSError, match="no space"):
        export_hugging_face(good, Full(), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def mixture(**arguments):
    task = tiny_mixture(encoder=tiny_encoder("bert"), **arguments).eval()
    for one, names in zip(task.tasks.values(), (("ham", "spam", "news"), NAMES), strict=True):
        one.label_names = names
        one.head = one.build_head().eval()
    task.head = task.build_head()
    return task


def test_several_tasks_are_a_folder_each(tmp_path):
    task = mixture(pool="pooled")
    written = export_tasks(task, None, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(written) == ["texts", "words"]
    batch = Language(9).batch(torch.arange(9))
    inputs, real = padded_inputs(batch, 0, types=True)
    texts = reloaded(BertForSequenceClassification, tmp_path / "out" / "texts")
    torch.testing.assert_close(texts(**inputs).logits, task.tasks["texts"](batch), rtol=1e-5, atol=1e-6)
    words = WordBatch(batch.input_ids, batch.token_type_ids, batch.lengths, batch.index)
    words.places = torch.arange(1, int(batch.lengths.sum()), 3)
    tagger = reloaded(AutoModelForTokenClassification, tmp_path / "out" / "words")
    assert tagger.config.id2label == dict(enumerate(NAMES))
    found = tagger(**inputs).logits[real][words.places]
    torch.testing.assert_close(found, task.tasks["words"](words), rtol=1e-4, atol=1e-5)


def test_one_task_that_transformers_does_not_have_leaves_none(tmp_path):
    with pytest.raises(
        ValueError, match=r"task 'texts' of model.init_args.tasks .*: bertlab export .* pool 'mean'"
    ):
        export_tasks(mixture(pool="mean"), None, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_word_pieces_are_written_as_a_list_too(tmp_path):
    """Google's own tools, and transformers, read the same ids out of vocab.txt."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder("packaged:minilm_l6_v2"))
    tokenizer.add_tokens(["covfefe"])
    export_hugging_face(built(tiny_task("mlm")), tokenizer, tmp_path / "out")
    pieces = read_pieces(tmp_path / "out" / "vocab.txt")
    assert {piece: number for number, piece in enumerate(pieces)} == tokenizer.get_vocab()
    assert pieces[101:104] == ["[CLS]", "[SEP]", "[MASK]"]
    peer = BertTokenizer(vocab=str(tmp_path / "out" / "vocab.txt"))
    text = "Zürich's unaffable [MASK]"
    assert peer(text).input_ids == tokenizer(text).input_ids
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("covfefe").input_ids == [101, 30522, 102]

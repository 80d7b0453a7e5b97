"""The fast step is the plain one: loss and gradients of transformers' own heads on padded, full logits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import BertForPreTraining, ElectraForPreTraining

from bertlab.encoders.encoder import Encoder
from bertlab.export.hugging_face import copied_into, hugging_face_model
from bertlab.tasks.masked_language import MaskedLanguage
from bertlab.tasks.pretraining import Pretraining
from bertlab.tasks.replaced_tokens import ReplacedTokens, draws
from tests.encoders.tiny import transformer
from tests.tasks.tiny_pretraining import Language, padded, tiny_config, tiny_encoder, tiny_task

HAS_TYPES = {"bert", "electra", "albert", "roberta"}
TYPES = ["bert", "roberta", "electra", "modernbert", "distilbert", "albert"]


def padding_encoder() -> Encoder:
    sizes = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return Encoder(transformer("bert", **tiny_config("bert", **sizes)), padding_free=False)


def built(task: Pretraining) -> Pretraining:
    """With heads, every weight away from its first value, in train mode without dropout."""
    task.head = task.build_head()
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return task


def gradients(task: Pretraining, batches: list[Any]) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of a step, accumulated as Lightning does."""
    task.zero_grad()
    losses = [task.heads.training_loss(task.encoder, batch, 3) / len(batches) for batch in batches]
    for loss in losses:
        loss.backward()
    found = {name: p.grad.clone() for name, p in task.named_parameters() if p.grad is not None}
    return float(sum(loss.detach() for loss in losses)), found


def plain(model: torch.nn.Module, batch, sentence: bool) -> torch.Tensor:
    types = model.config.model_type in HAS_TYPES
    inputs = padded(batch, model.config.pad_token_id, types)
    if sentence:
        inputs["next_sentence_label"] = batch.sentence_labels
    return model.train()(**inputs).loss


def compare(task: Pretraining, model: torch.nn.Module, batch, sentence: bool) -> None:
    copied_into(model, task)
    theirs = plain(model, batch, sentence)
    theirs.backward()
    loss, mine = gradients(
        task, [replace(batch, step_masked=len(batch.masked_labels), step_sequences=batch.size)]
    )
    assert loss == pytest.approx(float(theirs.detach()), rel=2e-6)
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    # The same gradients, told apart by what copied_into put where: as many of them, of equal norms.
    names = copied_into(model, task)
    assert len(expected) == len(mine)
    for name, gradient in mine.items():
        torch.testing.assert_close(gradient, expected[names[name]], rtol=1e-4, atol=2e-7)


@pytest.mark.parametrize("padding_free", [True, False])
def test_bert_for_pretraining(padding_free):
    task = built(tiny_task("mlm_nsp"))
    if not padding_free:
        task = built(tiny_task("mlm_nsp", encoder=padding_encoder()))
    model = hugging_face_model(task)
    assert type(model) is BertForPreTraining
    compare(task, model, Language(24).batch(torch.arange(24)), sentence=True)


@pytest.mark.parametrize("model_type", TYPES)
def test_masked_language_model_of_each_type(model_type):
    task = built(tiny_task("mlm", model_type))
    model = hugging_face_model(task)
    assert type(model).__name__.endswith("ForMaskedLM")
    compare(task, model, Language(24).batch(torch.arange(24)), sentence=False)


@pytest.mark.parametrize("objective", ["mlm_nsp", "replaced_tokens"])
@pytest.mark.parametrize("parts", [2, 3, 8])
def test_micro_batches_give_the_gradient_of_one_batch(objective, parts):
    task, language = built(tiny_task(objective)), Language(24)
    loss, one = gradients(task, language.step(torch.arange(24)))
    split_loss, split = gradients(task, language.step(torch.arange(24), parts))
    assert split_loss == pytest.approx(loss, rel=1e-5)
    assert one.keys() == split.keys() == {name for name, _ in task.named_parameters()}
    for name, gradient in one.items():
        torch.testing.assert_close(split[name], gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("objective", ["mlm_nsp", "mlm", "mlm_sop", "replaced_tokens"])
def test_nothing_masked_gives_no_masked_loss_and_no_nan(objective):
    task, language = built(tiny_task(objective)), Language(8)
    batch = language.step(torch.arange(8))[0]
    empty = replace(
        batch,
        masked_positions=batch.masked_positions[:0],
        masked_labels=batch.masked_labels[:0],
        step_masked=0,
    )
    loss, found = gradients(task, [empty])
    assert found.keys() == {name for name, _ in task.named_parameters()}  # DDP waits for each of them
    assert all(gradient.isfinite().all() for gradient in found.values())
    if objective == "mlm":
        assert loss == 0.0
        assert all(not gradient.any() for gradient in found.values())
    else:
        assert loss > 0


@pytest.mark.parametrize("objective", ["mlm_nsp", "replaced_tokens"])
def test_editing_a_neighbour_leaves_the_others_unchanged(objective):
    task, batch = built(tiny_task(objective)).eval(), Language(12).batch(torch.arange(12))
    before = task.heads.evaluate(task.encoder, batch)
    ids, edited = batch.input_ids.clone(), 4
    start = int(batch.lengths[:edited].sum())
    ids[start + 1 : start + 3] = torch.tensor([17, 23])
    after = task.heads.evaluate(task.encoder, replace(batch, input_ids=ids))
    others = torch.arange(12) != edited
    assert torch.equal(before[others], after[others])
    assert not torch.equal(before[edited], after[edited])


def test_packed_equals_padded_token_by_token():
    packed = tiny_encoder()
    alone = padding_encoder()
    alone.load_state_dict(packed.state_dict())
    batch = Language(12).batch(torch.arange(12))
    everything = packed(batch).hidden
    torch.testing.assert_close(everything, alone(batch).hidden, rtol=1e-5, atol=1e-5)
    for encoder in (packed, alone):
        wanted = encoder(batch, positions=batch.masked_positions)
        torch.testing.assert_close(wanted.hidden, everything[batch.masked_positions], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(wanted.first, encoder(batch).first, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(wanted.pooled, encoder(batch).pooled, rtol=1e-5, atol=1e-5)


def test_discriminator_is_that_of_transformers():
    task = built(tiny_task("replaced_tokens", "electra"))
    model = hugging_face_model(task).train()
    assert type(model) is ElectraForPreTraining
    copied_into(model, task)
    batch = Language(16).batch(torch.arange(16))
    inputs = padded(batch, 0, types=True)
    labels = inputs.pop("labels").clamp(min=0)
    logits, _, losses = task.heads._discriminate(task.encoder, batch, batch.masked_labels)
    ids = batch.input_ids.clone()
    ids[batch.masked_positions] = batch.masked_labels
    real = inputs["attention_mask"].bool()
    inputs["input_ids"] = inputs["input_ids"].masked_scatter(real, ids)
    theirs = model(**inputs).logits[real]
    torch.testing.assert_close(logits, theirs, rtol=1e-4, atol=1e-5)
    assert labels.any()
    # Drawn as the text has it: every token is original, so the loss is that of saying so.
    expected = functional.softplus(theirs).split(batch.lengths.tolist())
    torch.testing.assert_close(losses, torch.stack([part.mean() for part in expected]), rtol=1e-4, atol=1e-5)


def test_draws_are_uniform_and_a_function_of_step_sequence_and_place():
    batch = Language(4000).batch(torch.arange(4000))
    first, again, later = draws(batch, 7), draws(batch, 7), draws(batch, 8)
    assert torch.equal(first, again)
    assert (first != later).float().mean() > 0.99
    assert len(first) > 5000
    assert first.min() >= 0
    assert first.max() < 1
    # Kolmogorov-Smirnov, at a level of 0.001.
    ordered = first.sort().values.double()
    distance = (ordered - (torch.arange(len(ordered)) + 0.5) / len(ordered)).abs().max()
    assert distance < 1.95 / len(ordered) ** 0.5
    assert abs(torch.corrcoef(torch.stack([first, later]))[0, 1]) < 0.05


def test_generator_shares_the_embeddings_and_is_trained_with_the_head():
    task = built(tiny_task("replaced_tokens"))
    heads = task.heads
    assert isinstance(heads, ReplacedTokens)
    table = task.encoder.model.embeddings
    assert heads.generator.word_embedding.weight is table.word_embeddings.weight
    assert heads.generator.model.embeddings.position_embeddings.weight is table.position_embeddings.weight
    assert heads.masked_lm.decoder.weight is table.word_embeddings.weight
    assert heads.generator.hidden_size == 8
    blocks = {block.name: block for block in task.blocks()}
    head = {id(p) for p in blocks["head"].parameters()}
    assert {id(p) for p in heads.parameters()} == head


def test_tied_decoder_is_of_the_embeddings_and_of_the_head():
    task = built(tiny_task("mlm"))
    heads = task.heads
    assert isinstance(heads, MaskedLanguage)
    weight = task.encoder.word_embedding.weight
    assert heads.masked_lm.decoder.weight is weight
    holding = [block.name for block in task.blocks() if any(p is weight for p in block.parameters())]
    assert holding == ["embeddings", "head"]
    untied = built(tiny_task("mlm", encoder=tiny_encoder(tie_word_embeddings=False)))
    assert untied.heads.masked_lm.decoder.weight is not untied.encoder.word_embedding.weight

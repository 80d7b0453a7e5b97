"""TokenClassification: the loss and gradients of transformers, seqeval's scores, the same for any split of a step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.scheme import IOB2
from sklearn.metrics import accuracy_score, confusion_matrix
from sklearn.metrics import f1_score as f1_of_classes
from transformers import BertForTokenClassification

from bertlab.callbacks.fast_gradient import FastGradient
from bertlab.callbacks.r_drop import RDrop
from bertlab.encoders.encoder import Encoder
from bertlab.export.hugging_face import copied_into, hugging_face_model
from bertlab.interfaces import (
    HasBlocks,
    HasClassWeights,
    HasConfusionMatrix,
    HasEncoderBlocks,
    HasTrainingLoss,
    HasWordEmbedding,
    WordBatch,
)
from bertlab.losses.focal import Focal
from bertlab.tasks.token_classification import TokenClassification
from tests.encoders.tiny import padded_inputs, transformer
from tests.ranks import on_two_ranks
from tests.tasks.test_sequence_classification import Losses
from tests.tasks.tiny import TinyData, tiny_trainer
from tests.tasks.tiny_words import NAMES, TinyWords, tiny_tagger

ALL = torch.arange(60)


def built(**arguments: Any) -> TokenClassification:
    """With a head, every weight away from its first value."""
    task = tiny_tagger(label_names=list(NAMES), **arguments)
    task.head = task.build_head()
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return task


def gradients(task: TokenClassification, parts: list[WordBatch]) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of a step, accumulated as Lightning does."""
    task.zero_grad()
    losses = [task.training_loss(part) / len(parts) for part in parts]
    for loss in losses:
        loss.backward()
    found = {name: p.grad.clone() for name, p in task.named_parameters() if p.grad is not None}
    return float(sum(loss.detach() for loss in losses)), found


def padding_encoder() -> Encoder:
    sizes = {
        "hidden_size": 16,
        "num_attention_heads": 2,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return Encoder(transformer("bert", **sizes), padding_free=False)


@pytest.mark.parametrize("padding_free", [True, False])
def test_loss_and_gradients_are_those_of_transformers(padding_free: bool) -> None:
    task = built() if padding_free else built(encoder=padding_encoder())
    batch = TinyWords().step(ALL, 1)[0]
    model = hugging_face_model(task)
    assert type(model) is BertForTokenClassification
    names = copied_into(model, task)
    inputs, real = padded_inputs(batch, 0, types=True)
    labels = torch.full_like(batch.input_ids, -100)
    labels[batch.places] = batch.labels
    inputs["labels"] = torch.full_like(inputs["input_ids"], -100)
    inputs["labels"][real] = labels
    theirs = model(**inputs)
    theirs.loss.backward()
    loss, mine = gradients(task, [batch])
    assert loss == pytest.approx(float(theirs.loss), rel=2e-6)
    torch.testing.assert_close(task(batch), theirs.logits[real][batch.places], rtol=1e-5, atol=1e-6)
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert {names[name] for name in mine} == expected.keys()
    for name, gradient in mine.items():
        torch.testing.assert_close(gradient, expected[names[name]], rtol=1e-4, atol=2e-7)


@pytest.mark.parametrize("weights", [None, [0.2, 1.0, 3.0, 0.0, 5.0]])
@pytest.mark.parametrize("parts", [2, 3, 8])
def test_micro_batches_give_the_gradient_of_one_batch(weights: list[float] | None, parts: int) -> None:
    task, data = built(), TinyWords()
    task.set_class_weights(None if weights is None else torch.tensor(weights))
    loss, one = gradients(task, data.step(ALL[:20], 1))
    split_loss, split = gradients(task, data.step(ALL[:20], parts))
    assert split_loss == pytest.approx(loss, rel=1e-5)
    assert one.keys() == split.keys() == {name for name, _ in task.named_parameters()}
    for name, gradient in one.items():
        torch.testing.assert_close(split[name], gradient, rtol=1e-3, atol=1e-6)


def test_class_weights_weigh_words() -> None:
    task, batch = built(), TinyWords().step(ALL[:20], 1)[0]
    weights = torch.tensor([0.2, 1.0, 3.0, 0.0, 5.0])
    task.set_class_weights(weights)
    expected = torch.nn.functional.cross_entropy(task(batch), batch.labels, weight=weights)
    assert float(task.training_loss(batch)) == pytest.approx(float(expected), rel=1e-6)
    assert "class_weights" not in task.state_dict()
    with pytest.raises(ValueError, match=r"each of the labels \['O', .*\], got shape \(2,\)"):
        task.set_class_weights(torch.ones(2))


def test_a_neighbour_changes_nothing() -> None:
    task, batch = built().eval(), TinyWords().batch(ALL[:12])
    before = task(batch)
    ids = batch.input_ids.clone()
    start = int(batch.lengths[:4].sum())
    ids[start + 1 : start + 3] = torch.tensor([17, 23])
    after = task(replace(batch, input_ids=ids))
    others = batch.sentences != batch.index[4]
    assert torch.equal(before[others], after[others])
    assert not torch.equal(before[~others], after[~others])


def test_learns_and_scores_as_seqeval(tmp_path: Path) -> None:
    task, data = tiny_tagger(), TinyWords()
    trainer = tiny_trainer(tmp_path, max_epochs=25)
    trainer.fit(task, datamodule=data)
    assert trainer.callback_metrics["val/f1"] > 0.9
    assert task.monitor == ("val/f1", "max")
    (tested,) = trainer.test(task, datamodule=data, verbose=False)
    names = {"loss", "accuracy", *(f"{m}{k}" for m in ("", "macro_") for k in ("precision", "recall", "f1"))}
    names |= {f"{k}_{kind}" for k in ("precision", "recall", "f1") for kind in "xy"}
    names |= {f"strict_{k}" for k in ("precision", "recall", "f1")}
    assert set(tested) == {f"test/{name}" for name in names}
    scores = task.evaluation_scores()
    assert scores is not None
    assert scores.labels.tolist() == data.labels.tolist()  # in the order of the words
    predicted = scores.outputs.argmax(dim=1)
    true_tags, tags = (
        [[NAMES[c] for c in part.tolist()] for part in classes.split(data.counts.tolist())]
        for classes in (scores.labels, predicted)
    )
    assert tested["test/f1"] == pytest.approx(f1_score(true_tags, tags))
    assert tested["test/precision"] == pytest.approx(precision_score(true_tags, tags))
    assert tested["test/recall"] == pytest.approx(recall_score(true_tags, tags))
    assert tested["test/macro_f1"] == pytest.approx(f1_score(true_tags, tags, average="macro"))
    assert tested["test/strict_f1"] == pytest.approx(f1_score(true_tags, tags, mode="strict", scheme=IOB2))
    assert tested["test/accuracy"] == pytest.approx(accuracy_score(scores.labels, predicted))
    assert (
        task.confusion_matrix().tolist()
        == confusion_matrix(scores.labels, predicted, labels=range(5)).tolist()
    )
    assert tested["test/loss"] == pytest.approx(float(scores.losses.mean()))
    prediction = trainer.predict(task, datamodule=data)[0]
    assert prediction["index"].sort().values.tolist() == list(range(int(data.counts[:5].sum())))
    assert prediction["probabilities"].shape == (len(prediction["index"]), 5)
    for protocol in (
        HasBlocks, HasEncoderBlocks, HasWordEmbedding, HasTrainingLoss, HasClassWeights, HasConfusionMatrix,
    ):  # fmt: skip
        assert isinstance(task, protocol)
    assert "training_step" not in vars(TokenClassification), "strategies wrap the step of the base"
    assert [block.name for block in task.blocks()] == ["embeddings", "layer.0", "layer.1", "head"]


def test_tags_that_are_no_entities(tmp_path: Path) -> None:
    names = ("DET", "NOUN", "VERB", "ADJ", "I-x")
    task, data = tiny_tagger(problem="tags"), TinyWords(label_names=names, scheme="none")
    trainer = tiny_trainer(tmp_path, max_epochs=2)
    trainer.fit(task, datamodule=data)
    assert task.monitor == ("val/accuracy", "max")
    scores = task.evaluation_scores()
    assert scores is not None
    reference = f1_of_classes(scores.labels, scores.outputs.argmax(dim=1), average="macro")
    assert float(trainer.callback_metrics["val/macro_f1"]) == pytest.approx(reference)
    assert "val/f1" not in trainer.callback_metrics


def test_one_batch_and_four_micro_batches_train_alike(tmp_path: Path) -> None:
    results = []
    for splits in (1, 4):
        task, losses = tiny_tagger(optimizer=lambda p: torch.optim.SGD(p, lr=0.5)), Losses()
        task.label_names = NAMES
        task.set_class_weights(torch.tensor([0.3, 1.0, 2.0, 4.0, 1.0]))
        trainer = tiny_trainer(tmp_path, accumulate_grad_batches=splits, callbacks=[losses])
        trainer.fit(task, datamodule=TinyWords(splits=splits))
        assert len(losses.seen) == 3
        results.append((losses.seen, [p.detach() for p in task.parameters()]))
    (one_losses, one), (four_losses, four) = results
    assert four_losses == pytest.approx(one_losses, rel=1e-5)
    for a, b in zip(one, four, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def run(folder: Path, ranks: int) -> dict[str, Any]:
    losses = Losses()
    settings: dict[str, Any] = {"strategy": "ddp"} if ranks > 1 else {}
    trainer = tiny_trainer(
        folder,
        devices=ranks,
        accumulate_grad_batches=4 // ranks,
        max_epochs=2,
        callbacks=[losses],
        **settings,
    )
    task = tiny_tagger(optimizer=lambda p: torch.optim.SGD(p, lr=0.5))
    data = TinyWords(rows=55, splits=4)
    (before,) = trainer.validate(task, datamodule=data, verbose=False)
    matrix = task.confusion_matrix().tolist()
    task.set_class_weights(torch.tensor([0.3, 1.0, 2.0, 4.0, 1.0]))
    trainer.fit(task, datamodule=data)
    weights = {name: value.clone() for name, value in task.state_dict().items()}
    return {"before": before, "matrix": matrix, "losses": losses.seen, "weights": weights}


def test_two_ranks_are_as_one(tmp_path: Path) -> None:
    one = run(tmp_path, 1)
    first, second = on_two_ranks(run, tmp_path, tmp_path, 2)
    # Metrics are computed from the words of all ranks in order: not even a rounding apart.
    assert first["before"] == second["before"] == one["before"]
    assert first["matrix"] == second["matrix"] == one["matrix"]
    assert sum(map(sum, one["matrix"])) == int(TinyWords(rows=55).counts.sum()), "every word once"
    assert first["losses"] == second["losses"] == pytest.approx(one["losses"], rel=1e-4)
    for name, weight in one["weights"].items():
        assert torch.equal(first["weights"][name], second["weights"][name])
        torch.testing.assert_close(first["weights"][name], weight, rtol=1e-3, atol=1e-5)


def test_checkpoints_know_their_tags(tmp_path: Path) -> None:
    task, data = tiny_tagger(), TinyWords()
    trainer = tiny_trainer(tmp_path, limit_train_batches=1)
    trainer.fit(task, datamodule=data)
    path = tmp_path / "x.ckpt"
    trainer.save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    again = tiny_tagger()
    again.on_load_checkpoint(checkpoint)
    again.load_state_dict(checkpoint["state_dict"])
    assert again.label_names == NAMES
    batch = data.batch(ALL)
    assert torch.equal(again.eval()(batch), task.eval()(batch))
    swapped = tiny_tagger(label_names=["O", "B-y", "I-y", "B-x", "I-x"])
    with pytest.raises(
        ValueError, match=r"trained on the labels \['O', 'B-x', .*the labels here are \['O', 'B-y'"
    ):
        swapped.on_load_checkpoint(checkpoint)
    with pytest.raises(ValueError, match=r"of the problem 'entities', model\.init_args\.problem is 'tags'"):
        tiny_tagger(problem="tags").on_load_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("arguments", "data", "message"),
    [
        ({}, {"label_names": None}, "the labels are not known"),
        (
            {"label_names": ["O", "B-z", "I-z"]},
            {},
            r"of the data are \['O', 'B-x', .* those of the model \['O', 'B-z'",
        ),
        (
            {},
            {"label_names": ("O", "NOUN")},
            r"'entities' takes the tags O and B-, .* got NOUN: set .*problem: tags",
        ),
        (
            {},
            {"scheme": "none"},
            r"scheme is 'none', model\.init_args\.problem is 'entities': 'none' goes with 'tags'",
        ),
        ({"problem": "tags"}, {}, r"scheme is 'bio', model\.init_args\.problem is 'tags'"),
        ({}, {"splits": 2}, "into 2 micro-batches, training into 1"),
    ],
)
def test_data_that_do_not_fit_are_refused(
    tmp_path: Path, arguments: dict[str, Any], data: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_trainer(tmp_path).fit(tiny_tagger(**arguments), datamodule=TinyWords(**data))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"problem": "ranking"}, r"problem takes one of \('entities', 'tags'\), got 'ranking'"),
        ({"label_names": ["O"]}, r"takes 2 labels or more, got \['O'\]"),
        ({"label_names": ["O", "x"]}, "got x: set model.init_args.problem: tags"),
        ({"encoder": torch.nn.Linear(2, 2)}, "takes a class of bertlab.encoders, got Linear"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_tagger(**arguments)


def test_batches_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    data = TinyWords()
    data.train_dataloader = data.val_dataloader
    with pytest.raises(ValueError, match="takes labels and step_labels"):
        tiny_trainer(tmp_path).fit(tiny_tagger(), datamodule=data)
    data = TinyWords()
    data.test_dataloader = data.predict_dataloader
    with pytest.raises(ValueError, match="words with tags, got words without"):
        tiny_trainer(tmp_path).test(tiny_tagger(), datamodule=data)


def test_strategies_wrap_its_loss_for_any_split(tmp_path: Path) -> None:
    def trained(*strategies: Callback, splits: int = 1) -> list[torch.Tensor]:
        task = tiny_tagger(optimizer=lambda p: torch.optim.SGD(p, lr=0.5))
        trainer = tiny_trainer(tmp_path, accumulate_grad_batches=splits, callbacks=list(strategies))
        trainer.fit(task, datamodule=TinyWords(splits=splits))
        return [p.detach() for p in task.parameters()]

    plain, adversarial = trained(), trained(FastGradient(), RDrop())
    assert max(float((a - b).abs().max()) for a, b in zip(plain, adversarial, strict=True)) > 1e-4
    for a, b in zip(adversarial, trained(FastGradient(), RDrop(), splits=4), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


class FrozenEncoder(Callback):
    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.encoder.requires_grad_(False)


def test_any_loss_of_sequences_is_one_of_words(tmp_path: Path) -> None:
    task = tiny_tagger(loss=Focal(gamma=2.0))
    before = {name: p.clone() for name, p in task.encoder.named_parameters()}
    trainer = tiny_trainer(tmp_path, callbacks=[FrozenEncoder()])
    trainer.fit(task, datamodule=TinyWords())
    assert all(torch.equal(p, before[name]) for name, p in task.encoder.named_parameters())
    grouped = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert grouped == {id(p) for p in task.parameters()}


def test_data_of_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"problem is 'single_label', model\.init_args\.problem is 'entities'"
    ):
        tiny_trainer(tmp_path).fit(tiny_tagger(), datamodule=TinyData())

"""Several tasks over one encoder: each as it is alone, and what they share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from bertlab.callbacks.cost_weighted_loss import CostWeightedLoss
from bertlab.callbacks.low_rank_adapters import LowRankAdapters
from bertlab.callbacks.step_seed import StepSeed
from bertlab.interfaces import MultiTaskBatch
from bertlab.tasks.sequence_classification import SequenceClassification
from bertlab.tasks.token_classification import TokenClassification
from tests.bits import assert_equal
from tests.callbacks.tiny import Timeline
from tests.ranks import on_two_ranks
from tests.tasks.test_two_ranks import Losses
from tests.tasks.tiny import TinyData, tiny_encoder, tiny_task, tiny_trainer
from tests.tasks.tiny_mixture import TinyMixture, tiny_mixture
from tests.tasks.tiny_words import TinyWords, tiny_tagger


class Gradients(Callback):
    """Which heads, and whether the pooler, get a gradient in each step."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        parts = {name: task.head for name, task in pl_module.tasks.items()}
        pooler = pl_module.encoder.model.pooler
        parts |= {} if pooler is None else {"pooler": pooler}
        self.seen.append(
            [name for name, part in parts.items() if any(p.grad is not None for p in part.parameters())]
        )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("mixture")
    seen, task = Gradients(), tiny_mixture(pool="pooled", layer_decay=0.5)
    trainer = tiny_trainer(folder, max_epochs=12, callbacks=[seen])
    trainer.fit(task, datamodule=TinyMixture())
    trainer.save_checkpoint(folder / "last.ckpt")
    return {"task": task, "trainer": trainer, "seen": seen.seen, "path": folder / "last.ckpt"}


def test_one_encoder_is_shared_and_kept_once(trained: dict[str, Any]) -> None:
    task = trained["task"]
    assert all(one.encoder is task.encoder for one in task.tasks.values())
    names = [name for name, _ in task.named_parameters(remove_duplicate=False)]
    assert {name.split(".")[0] for name in names} == {"encoder", "head"}
    assert len(names) == len({id(p) for _, p in task.named_parameters(remove_duplicate=False)})
    assert list(torch.load(trained["path"], weights_only=True)["state_dict"]) == names


def test_blocks_and_groups_are_those_of_one_task(trained: dict[str, Any]) -> None:
    names = ["embeddings", "layer.0", "layer.1", "pooler", "head"]
    assert [block.name for block in trained["task"].blocks()] == names
    groups = trained["trainer"].optimizers[0].param_groups
    assert {group["block"]: group["rate_factor"] for group in groups} == {
        name: 0.5 ** (4 - i) for i, name in enumerate(names)
    }
    assert sum(len(group["params"]) for group in groups) == len(list(trained["task"].parameters()))


def test_only_the_heads_of_a_step_are_trained(trained: dict[str, Any]) -> None:
    assert trained["seen"] == [["texts", "pooler"], ["words"]] * 48


def test_it_learns_both_and_logs_each_and_their_means(trained: dict[str, Any], tmp_path: Path) -> None:
    (texts, words) = tiny_trainer(tmp_path).test(
        tiny_mixture(pool="pooled"),
        datamodule=TinyMixture(),
        ckpt_path=trained["path"],
        verbose=False,
        weights_only=True,
    )
    assert texts == words  # all is logged at the end, of no loader
    assert texts["test/texts/macro_f1"] > 0.7
    assert texts["test/words/f1"] > 0.7
    mean = (texts["test/texts/macro_f1"] + texts["test/words/f1"]) / 2
    assert texts["test/mean_score"] == pytest.approx(mean)
    assert texts["test/loss"] == pytest.approx((texts["test/texts/loss"] + texts["test/words/loss"]) / 2)
    assert {key.count("/") for key in texts} == {1, 2}


def same_weights(mixture: Any, texts: Any, words: Any) -> None:
    texts.load_state_dict({**mixture.state_dict(), **own(mixture, "texts")}, strict=False)
    words.load_state_dict({**mixture.state_dict(), **own(mixture, "words")}, strict=False)


def own(mixture: Any, name: str) -> dict[str, Any]:
    return {f"head.{key}": value for key, value in mixture.tasks[name].head.state_dict().items()}


def test_losses_and_answers_are_those_of_each_task_alone(tmp_path: Path) -> None:
    mixture, data = tiny_mixture(), TinyMixture(splits=2, steps=(("texts", "words"),))
    tiny_trainer(tmp_path, accumulate_grad_batches=2).fit(mixture, datamodule=data)
    texts, words = tiny_task(pool="mean"), tiny_tagger()
    for alone, of in ((texts, TinyData(rows=93, splits=2)), (words, TinyWords(splits=2))):
        tiny_trainer(tmp_path).validate(alone, datamodule=of, verbose=False)
    same_weights(mixture, texts, words)
    batch = data.train_dataloader().dataset[1]
    alone = torch.stack([texts.training_loss(batch.parts[0]), words.training_loss(batch.parts[1])])
    assert torch.equal(mixture.training_loss(batch), alone.mean())
    assert torch.equal(mixture.training_loss(batch.parts[0]), alone[0])
    assert torch.equal(mixture(batch.parts[1]), words(batch.parts[1]))
    for name, alone in (("texts", texts), ("words", words)):
        (part,) = data._batches(name, "predict_dataloader")
        answers, expected = mixture.predict_step(part), alone.predict_step(part)
        assert answers.pop("task") == name
        assert_equal(answers, expected)


def test_the_pooler_stays_only_where_a_task_uses_it() -> None:
    assert tiny_mixture(pool="pooled").encoder.has_pooler
    assert not tiny_mixture(pool="first").encoder.has_pooler
    encoder = tiny_mixture(pool="pooled").encoder
    TokenClassification(encoder)
    assert not encoder.has_pooler


def test_a_resumed_run_ends_as_one_never_stopped(tmp_path: Path) -> None:
    def run(epochs: int, ckpt_path: Path | None = None) -> Any:
        task, trainer = tiny_mixture(schedule=torch_constant), tiny_trainer(tmp_path, max_epochs=epochs)
        trainer.fit(task, datamodule=TinyMixture(), ckpt_path=ckpt_path, weights_only=True)
        return task, trainer

    whole, _ = run(3)
    _, first = run(1)
    first.save_checkpoint(tmp_path / "first.ckpt")
    assert_equal(dict(run(3, tmp_path / "first.ckpt")[0].state_dict()), dict(whole.state_dict()))


def torch_constant(optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)


MIXED = (("texts",), ("words",), ("texts", "words"), ("words",), ("texts",))


def run_on(ranks: int, folder: Path) -> dict[str, Any]:
    losses, seen = Losses(), Gradients()
    trainer = tiny_trainer(
        folder,
        devices=ranks,
        accumulate_grad_batches=4 // ranks,
        max_epochs=2,
        callbacks=[losses, seen],
        gradient_clip_val=1.0,
        strategy="ddp" if ranks > 1 else "auto",
    )
    # Momentum and weight decay would move a head whose gradient is 0 and not None.
    task = tiny_mixture(
        pool="pooled",
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
        schedule=torch_constant,
    )
    trainer.fit(task, datamodule=TinyMixture(MIXED, splits=4))
    metrics = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
    weights = {name: value.clone() for name, value in task.state_dict().items()}
    return {"losses": losses.seen, "grads": seen.seen, "metrics": metrics, "weights": weights}


def test_two_ranks_do_what_one_does_also_with_heads_that_a_step_leaves_out(tmp_path: Path) -> None:
    one = run_on(1, tmp_path)
    first, second = on_two_ranks(run_on, tmp_path, 2, tmp_path)
    assert first["grads"] == second["grads"] == one["grads"]
    assert one["grads"][:2] == [["texts", "pooler"], ["words"]]
    assert_equal(first["weights"], second["weights"])
    assert first["losses"] == pytest.approx(one["losses"], rel=1e-4)
    for name, weight in one["weights"].items():
        torch.testing.assert_close(first["weights"][name], weight, rtol=1e-3, atol=1e-5)
    assert first["metrics"] == second["metrics"] == pytest.approx(one["metrics"], abs=0.03)


def test_predictions_name_their_task_also_without_labels(trained: dict[str, Any], tmp_path: Path) -> None:
    data = TinyMixture()
    data.texts.label_names = data.words.label_names = None
    texts, words = tiny_trainer(tmp_path).predict(
        task := tiny_mixture(pool="pooled"), datamodule=data, ckpt_path=trained["path"], weights_only=True
    )
    assert [texts[0]["task"], words[0]["task"]] == ["texts", "words"]
    assert texts[0]["probabilities"].shape == (5, 3)
    assert words[0]["probabilities"].shape[1] == 5
    assert task.tasks["texts"].label_names == ("ham", "spam", "news")


def test_a_checkpoint_of_other_tasks_or_labels_is_refused(trained: dict[str, Any], tmp_path: Path) -> None:
    def test(task: Any, data: Any) -> None:
        tiny_trainer(tmp_path).test(task, datamodule=data, ckpt_path=trained["path"], weights_only=True)

    with pytest.raises(ValueError, match=r"of the task MultiTask, the model is SequenceClassification"):
        test(tiny_task(), TinyData())
    other = tiny_mixture(tasks={"texts": SequenceClassification, "more": SequenceClassification})
    data = TinyMixture()
    data.tasks = {"texts": data.texts, "more": TinyData()}
    with pytest.raises(
        ValueError, match=r"model.init_args.tasks is 'texts: SequenceClassification single_label, more"
    ):
        test(other, data)
    data = TinyMixture()
    data.texts.label_names = ("spam", "ham", "news")
    with pytest.raises(ValueError, match=r"task 'texts' of model.init_args.tasks .* the labels here are"):
        test(tiny_mixture(pool="pooled"), data)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"one": SequenceClassification}, r"model.init_args.tasks takes two tasks or more, got \['one'\]"),
        (
            {"a/b": SequenceClassification, "c": SequenceClassification},
            "of letters, digits, _ and - .*got 'a/b'",
        ),
        ({"keys": SequenceClassification, "c": SequenceClassification}, "none of torch's own, got 'keys'"),
        (
            {"a": SequenceClassification, "b": lambda e: SequenceClassification(e, layer_decay=0.9)},
            "model.init_args.tasks.b.init_args.layer_decay would be without effect.* set model.init_args.layer_decay",
        ),
        (
            {"a": lambda e: TokenClassification(e, optimizer=torch.optim.SGD), "b": SequenceClassification},
            "model.init_args.tasks.a.init_args.optimizer would be without effect",
        ),
    ],
)
def test_bad_tasks_are_refused(tasks: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_mixture(tasks=tasks)


def test_data_of_other_tasks_is_refused(tmp_path: Path) -> None:
    data = TinyMixture()
    data.tasks["more"] = TinyData()
    with pytest.raises(
        ValueError, match=r"data.init_args.tasks names more, and model.init_args.tasks has only texts"
    ):
        tiny_trainer(tmp_path).fit(tiny_mixture(), datamodule=data)
    data.tasks = {"texts": data.texts}
    with pytest.raises(
        ValueError, match=r"model.init_args.tasks names words, and data.init_args.tasks has only texts"
    ):
        tiny_trainer(tmp_path).fit(tiny_mixture(), datamodule=data)
    with pytest.raises(
        ValueError, match=r"takes the data of several tasks, bertlab.data.multi_task.*got TinyData"
    ):
        tiny_trainer(tmp_path).fit(tiny_mixture(), datamodule=TinyData())
    data = TinyMixture()
    data.words.scheme = "none"
    with pytest.raises(
        ValueError, match=r"task 'words' of model.init_args.tasks and .*: data.init_args.scheme is"
    ):
        tiny_trainer(tmp_path).fit(tiny_mixture(), datamodule=data)


class TaskLosses(Callback):
    """What is logged of each task's training loss at each optimizer step."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []
        self.step = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.step = trainer.global_step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if pl_module.global_step > self.step:
            self.step = pl_module.global_step
            keys = ("train/loss", "train/texts/loss", "train/words/loss")
            known = trainer.callback_metrics
            self.seen.append({key: float(known[key]) for key in keys if key in known})


def test_the_training_loss_of_each_task_is_logged_and_kept_in_checkpoints(tmp_path: Path) -> None:
    def run(epochs: int, ckpt_path: Path | None = None) -> tuple[Any, list[dict[str, float]]]:
        seen, task = TaskLosses(), tiny_mixture(schedule=torch_constant)
        trainer = tiny_trainer(tmp_path, max_epochs=epochs, accumulate_grad_batches=2, callbacks=[seen])
        data = TinyMixture((("texts",), ("words",), ("texts", "words"), ("texts",)), splits=2)
        trainer.fit(task, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
        return trainer, seen.seen

    first, begun = run(1)
    first.save_checkpoint(tmp_path / "first.ckpt")
    _, whole = run(2)
    assert [sorted(step) for step in whole[:2]] == [
        ["train/loss", "train/texts/loss"],
        ["train/loss", "train/texts/loss", "train/words/loss"],
    ]
    assert whole[0]["train/texts/loss"] == whole[0]["train/loss"] == whole[1]["train/texts/loss"]
    assert whole[1]["train/words/loss"] == whole[1]["train/loss"]
    both = (whole[2]["train/texts/loss"] + whole[2]["train/words/loss"]) / 2
    assert whole[2]["train/loss"] == pytest.approx(both, rel=1e-6)
    assert whole[4]["train/words/loss"] == whole[2]["train/words/loss"]  # of the epoch before
    # A resumed run logs what one that was never stopped does, also of a task that has had no step since.
    _, resumed = run(2, tmp_path / "first.ckpt")
    assert begun == whole[:4]
    assert resumed == whole[4:]


def test_class_weights_are_those_of_each_task(tmp_path: Path) -> None:
    mixture, data = tiny_mixture(), TinyMixture(steps=(("texts", "words"),))
    tiny_trainer(tmp_path).fit(mixture, datamodule=data)
    batch = data.train_dataloader().dataset[0]
    of_texts, of_words = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([0.1, 1.0, 1.0, 3.0, 2.0])
    mixture.set_class_weights(torch.cat([of_texts, of_words]))
    for name, part, weights in zip(("texts", "words"), batch.parts, (of_texts, of_words), strict=True):
        losses = nn.functional.cross_entropy(mixture(part), part.labels, reduction="none")
        weighed = (losses * weights[part.labels]).sum() / weights[part.labels].sum()
        torch.testing.assert_close(mixture.training_loss(part), weighed)
        assert torch.equal(mixture.tasks[name].class_weights, weights)
    mixture.set_class_weights(None)
    assert all(task.class_weights is None for task in mixture.tasks.values())


def test_costs_of_classes_reach_each_task_and_the_timeline(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    class Weights(Callback):
        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            seen.append({name: task.class_weights for name, task in pl_module.tasks.items()})

    data, timeline = TinyMixture(), Timeline()
    for part, counts in ((data.texts, [10, 20, 30]), (data.words, [8, 8, 8, 8, 8])):
        part.class_counts = lambda counts=counts: torch.tensor(counts)
    callbacks = [timeline, Weights(), StepSeed(0), CostWeightedLoss(tasks=["texts"])]
    mixture = tiny_mixture()
    tiny_trainer(tmp_path, callbacks=callbacks).fit(mixture, datamodule=data)
    for weights in seen:
        torch.testing.assert_close(weights["texts"], torch.tensor([2.0, 1.0, 2 / 3]))
        assert torch.equal(weights["words"], torch.ones(5))
    (event,) = [facts["weights"] for *_, what, facts in timeline.events if what == "class_weights"]
    assert list(event)[:4] == ["texts/ham", "texts/spam", "texts/news", "words/O"]
    assert mixture.tasks["texts"].class_weights is None  # afterwards


def test_adapters_are_in_the_checkpoint(tmp_path: Path) -> None:
    adapters = LowRankAdapters(peft.LoraConfig(r=2, target_modules=["query", "value"]))
    mixture = tiny_mixture()
    trainer = tiny_trainer(tmp_path, callbacks=[StepSeed(0), adapters])
    trainer.fit(mixture, datamodule=TinyMixture())
    trainer.save_checkpoint(tmp_path / "lora.ckpt")
    other = tiny_mixture()
    tiny_trainer(tmp_path).validate(
        other, TinyMixture(), ckpt_path=tmp_path / "lora.ckpt", weights_only=True, verbose=False
    )
    assert_equal(dict(other.state_dict()), dict(mixture.state_dict()))
    assert any("lora_B" in name for name in other.state_dict())


def test_a_batch_of_no_task_is_refused() -> None:
    task, batch = tiny_mixture(), TinyData().batch(torch.arange(2))
    with pytest.raises(
        ValueError, match=r"the batch is of the task None, model.init_args.tasks has texts, words"
    ):
        task(batch)
    assert isinstance(task.encoder, nn.Module)
    assert MultiTaskBatch((batch,)).micro_batches == 1
    assert tiny_encoder().shared is False

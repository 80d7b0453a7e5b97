"""SequenceClassification: learns, logs, takes labels, refuses what does not fit."""

import math
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.cli import ReduceLROnPlateau
from lightning.pytorch.strategies import FSDPStrategy
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import confusion_matrix, f1_score

from bertlab.interfaces import HasBlocks, HasClassWeights, HasConfusionMatrix
from bertlab.losses.focal import Focal
from bertlab.schedules.constant import Constant
from bertlab.schedules.linear import Linear
from tests.tasks.tiny import TinyData, tiny_encoder, tiny_task, tiny_trainer


class Losses(Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if "train/loss" in trainer.callback_metrics and trainer.global_step > len(self.seen):
            self.seen.append(float(trainer.callback_metrics["train/loss"]))


def test_learns_a_separable_task(tmp_path):
    task, data = tiny_task(pool="mean"), TinyData()
    trainer = tiny_trainer(tmp_path, max_epochs=12)
    trainer.fit(task, datamodule=data)
    assert trainer.callback_metrics["val/accuracy"] > 0.95
    (tested,) = trainer.test(task, datamodule=data, verbose=False)
    assert set(tested) == {
        f"test/{name}" for name in ("loss", "accuracy", "macro_f1", "mcc", "calibration_error")
    }
    assert task.monitor == ("val/macro_f1", "max")
    scores = task.evaluation_scores()
    predicted = scores.outputs.argmax(dim=1)
    assert scores.labels.tolist() == data.classes_of_rows.tolist()  # in the order of the rows
    assert task.confusion_matrix().tolist() == confusion_matrix(data.classes_of_rows, predicted).tolist()
    assert tested["test/macro_f1"] == pytest.approx(f1_score(scores.labels, predicted, average="macro"))
    assert isinstance(task, HasBlocks)
    assert isinstance(task, HasClassWeights)
    assert isinstance(task, HasConfusionMatrix)


def test_learns_multi_label(tmp_path):
    task, data = tiny_task(problem="multi_label", pool="mean"), TinyData("multi_label")
    trainer = tiny_trainer(tmp_path, max_epochs=15)
    trainer.fit(task, datamodule=data)
    assert trainer.callback_metrics["val/macro_f1"] > 0.95
    scores = task.evaluation_scores()
    reference = f1_score(scores.labels, scores.outputs > 0.5, average="micro")
    assert float(trainer.callback_metrics["val/micro_f1"]) == pytest.approx(reference)
    assert task.confusion_matrix() is None
    prediction = trainer.predict(task, datamodule=data)[0]
    assert set(prediction) == {"index", "probabilities"}
    assert prediction["probabilities"].shape == (5, 3)


def test_learns_regression(tmp_path):
    task, data = tiny_task(problem="regression", pool="mean"), TinyData("regression")
    trainer = tiny_trainer(tmp_path, max_epochs=15)
    trainer.fit(task, datamodule=data)
    metrics = trainer.callback_metrics
    assert metrics["val/pearson"] > 0.9
    scores = task.evaluation_scores()
    values, targets = scores.outputs[:, 0], scores.labels
    assert float(metrics["val/pearson"]) == pytest.approx(pearsonr(values, targets).statistic, abs=1e-5)
    assert float(metrics["val/spearman"]) == pytest.approx(spearmanr(values, targets).statistic, abs=1e-5)
    assert task.monitor == ("val/mse", "min")
    prediction = trainer.predict(task, datamodule=data)[0]
    assert prediction["values"].shape == (5,)
    assert task.confusion_matrix() is None


def test_two_classes_have_a_positive_one(tmp_path):
    task, data = tiny_task(positive_label="ham"), TinyData(label_names=("ham", "spam"))
    trainer = tiny_trainer(tmp_path)
    (found,) = trainer.validate(task, datamodule=data, verbose=False)
    predicted = task.evaluation_scores().outputs.argmax(dim=1)
    assert found["val/positive_f1"] == pytest.approx(f1_score(data.classes_of_rows, predicted, pos_label=0))
    assert task.positive_label == "ham"
    assert {"val/positive_precision", "val/positive_recall", "val/positive_average_precision"} < set(found)


@pytest.mark.parametrize("problem", ["single_label", "multi_label", "regression"])
def test_one_batch_and_four_micro_batches_train_alike(tmp_path, problem):
    results = []
    for splits in (1, 4):
        task, losses = tiny_task(problem=problem, optimizer=lambda p: torch.optim.SGD(p, lr=0.5)), Losses()
        if problem != "regression":
            task.label_names = ("ham", "spam", "news")
            task.set_class_weights(torch.tensor([0.3, 1.0, 6.0]))
        data = TinyData(problem, rows=48, splits=splits)
        tiny_trainer(tmp_path, accumulate_grad_batches=splits, callbacks=[losses]).fit(task, datamodule=data)
        assert len(losses.seen) == 3
        results.append((losses.seen, [p.detach() for p in task.parameters()]))
    (one_losses, one), (four_losses, four) = results
    assert four_losses == pytest.approx(one_losses, rel=1e-5)
    for a, b in zip(one, four, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_class_weights_act_in_training_only(tmp_path):
    found = []
    for weights in (None, torch.tensor([0.0, 0.0, 5.0])):
        task, data = tiny_task(optimizer=lambda p: torch.optim.SGD(p, lr=0.0)), TinyData()
        task.label_names = data.label_names
        task.set_class_weights(weights)
        losses = Losses()
        trainer = tiny_trainer(tmp_path, callbacks=[losses], limit_train_batches=1)
        trainer.fit(task, datamodule=data)
        found.append((losses.seen, float(trainer.callback_metrics["val/loss"])))
        assert "class_weights" not in task.state_dict()
    assert found[0][0] != found[1][0]
    assert found[0][1] == found[1][1]
    rows = torch.arange(16)
    rows = rows[data.classes_of_rows[:16] == 2]
    logits = task(data.batch(rows))
    expected = torch.nn.functional.cross_entropy(logits, torch.full((len(rows),), 2))
    assert found[1][0] == [pytest.approx(expected.item(), rel=1e-5)]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 2.0], r"each of the labels \['ham', 'spam', 'news'\], got shape \(2,\)"),
        ([1.0, -2.0, 1.0], r"finite numbers of 0 or more, got \[1.0, -2.0, 1.0\]"),
        ([1.0, math.nan, 1.0], "finite numbers of 0 or more"),
    ],
)
def test_bad_class_weights_are_refused(weights, message):
    task = tiny_task(label_names=["ham", "spam", "news"])
    with pytest.raises(ValueError, match=message):
        task.set_class_weights(torch.tensor(weights))
    with pytest.raises(ValueError, match="class weights go with classes"):
        tiny_task(problem="regression").set_class_weights(torch.tensor(weights))


def test_multi_label_weights_need_a_loss_that_takes_them(tmp_path):
    task = tiny_task(problem="multi_label", loss=torch.nn.Identity())
    task.label_names = ("ham", "spam", "news")
    task.set_class_weights(torch.ones(3))
    task.loss.forward = lambda logits, labels: (logits - labels).square().mean(dim=1)
    with pytest.raises(ValueError, match=r"model.init_args.loss: Identity takes no class weights"):
        tiny_trainer(tmp_path).fit(task, datamodule=TinyData("multi_label"))


def test_training_is_in_train_mode_though_the_encoder_came_in_evaluation_mode(tmp_path):
    class Modes(Callback):
        def __init__(self):
            self.modes = []

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.modes.append(all(module.training for module in pl_module.modules()))

    encoder = tiny_encoder()
    encoder.eval()
    callback = Modes()
    trainer = tiny_trainer(tmp_path, callbacks=[callback], num_sanity_val_steps=1, val_check_interval=2)
    trainer.fit(tiny_task(encoder=encoder), datamodule=TinyData())
    assert callback.modes == [True] * 6


@pytest.mark.parametrize(
    ("arguments", "data", "message"),
    [
        (
            {"label_names": ["spam", "ham", "news"]},
            {},
            r"of the data are \['ham', 'spam', 'news'\], those of the ",
        ),
        ({}, {"label_names": None}, "the labels are not known"),
        ({}, {"label_names": ("ham",)}, r"takes 2 labels or more, got \['ham'\]"),
        ({}, {"label_names": ("ham", "ham")}, r"takes each name once, got \['ham', 'ham'\]"),
        (
            {"positive_label": "eggs"},
            {},
            r"positive_label takes one of \['ham', 'spam', 'news'\], got 'eggs'",
        ),
        ({}, {"vocabulary_size": 41}, "has 41 tokens, the embedding of the encoder .* only 40"),
        ({}, {"splits": 2}, "into 2 micro-batches, training into 1"),
    ],
)
def test_data_that_do_not_fit_are_refused_before_training(tmp_path, arguments, data, message):
    with pytest.raises(ValueError, match=message):
        tiny_trainer(tmp_path).fit(tiny_task(**arguments), datamodule=TinyData(**data))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"problem": "ranking"}, r"problem takes one of .*'multi_label'.*, got 'ranking'"),
        ({"problem": "regression", "label_names": ["a"]}, r"takes no label names, got \['a'\]"),
        ({"problem": "regression", "positive_label": "a"}, "positive_label goes with .* single_label"),
        ({"calibration_bins": 0}, "calibration_bins takes 1 or more, got 0"),
        (
            {"encoder": torch.nn.Linear(2, 2)},
            "takes a class of bertlab.encoders, got Linear, which has no blocks",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny_task(**arguments)


def test_sharding_that_flattens_parameters_is_refused():
    task = tiny_task()
    task.trainer = SimpleNamespace(strategy=FSDPStrategy(), training=True, datamodule=TinyData())
    with pytest.raises(TypeError, match=r"'fsdp' \(FSDP1\) flattens parameters.*ModelParallelStrategy"):
        task.configure_model()
    assert task.head is None


def test_a_training_batch_must_know_its_step(tmp_path):
    data = TinyData()
    data.train_dataloader = data.val_dataloader
    with pytest.raises(ValueError, match="takes labels and step_labels"):
        tiny_trainer(tmp_path).fit(tiny_task(), datamodule=data)


def test_rows_without_labels_cannot_be_tested(tmp_path):
    data = TinyData()
    data.test_dataloader = data.predict_dataloader
    with pytest.raises(ValueError, match="rows with labels, got rows without"):
        tiny_trainer(tmp_path).test(tiny_task(), datamodule=data)


def test_a_loss_that_is_no_number_stops_training_and_names_the_step(tmp_path):
    class Poison(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 3:
                with torch.no_grad():
                    pl_module.head.output.bias.fill_(math.inf)

    task = tiny_task()
    with pytest.raises(
        ValueError, match="the training loss is nan at optimizer step 3: lower the learning rate"
    ):
        tiny_trainer(tmp_path, callbacks=[Poison()]).fit(task, datamodule=TinyData())


class Rates(Callback):
    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen.append({group["block"]: group["lr"] for group in optimizer.param_groups})


def test_rates_follow_the_schedule_and_the_depth(tmp_path):
    rates = Rates()
    task = tiny_task(
        optimizer=lambda p: torch.optim.AdamW(p, lr=0.01),
        schedule=Linear(warmup_fraction=0.5),
        layer_decay=0.5,
    )
    tiny_trainer(tmp_path, callbacks=[rates], max_epochs=2).fit(task, datamodule=TinyData())
    factors = [Linear(warmup_fraction=0.5)(step / 12) for step in range(12)]
    assert [seen["head"] for seen in rates.seen] == pytest.approx([0.01 * f for f in factors])
    depths = {"head": 0, "pooler": 1, "layer.1": 2, "layer.0": 3, "embeddings": 4}
    assert rates.seen[6] == {block: pytest.approx(0.01 * 0.5**depth) for block, depth in depths.items()}


def test_any_scheduler_of_torch_is_taken(tmp_path):
    rates = Rates()
    task = tiny_task(
        optimizer=lambda p: torch.optim.AdamW(p, lr=1.0),
        schedule=lambda o: torch.optim.lr_scheduler.StepLR(o, step_size=2, gamma=0.1),
    )
    tiny_trainer(tmp_path, callbacks=[rates]).fit(task, datamodule=TinyData())
    assert [seen["head"] for seen in rates.seen] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_reduce_on_plateau_is_taken(tmp_path):
    rates = Rates()
    task = tiny_task(
        optimizer=lambda p: torch.optim.SGD(p, lr=0.0),
        schedule=lambda o: ReduceLROnPlateau(o, monitor="val/loss", patience=0, min_lr=-1.0),
    )
    trainer = tiny_trainer(tmp_path, callbacks=[rates], max_epochs=2)
    trainer.fit(task, datamodule=TinyData())
    assert trainer.lr_scheduler_configs[0].interval == "epoch"
    assert trainer.lr_scheduler_configs[0].monitor == "val/loss"


def test_reduce_on_plateau_waits_for_the_next_validation(tmp_path):
    task = tiny_task(schedule=lambda o: ReduceLROnPlateau(o, monitor="val/loss", patience=9))
    trainer = tiny_trainer(tmp_path, max_epochs=6, check_val_every_n_epoch=3)
    trainer.fit(task, datamodule=TinyData())
    assert trainer.lr_scheduler_configs[0].scheduler.last_epoch == 2


def test_training_without_an_end_has_no_progress(tmp_path):
    with pytest.raises(
        ValueError, match=r"training needs an end: set trainer.max_epochs .* \(they are -1 and -1\)"
    ):
        tiny_trainer(tmp_path, max_epochs=-1).fit(tiny_task(schedule=Constant()), datamodule=TinyData())


def test_the_optimizer_sees_every_parameter_also_frozen_ones(tmp_path):
    task = tiny_task(loss=Focal())
    task.encoder.requires_grad_(False)
    trainer = tiny_trainer(tmp_path, limit_train_batches=1)
    before = {name: p.clone() for name, p in task.encoder.named_parameters()}
    trainer.fit(task, datamodule=TinyData())
    grouped = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert grouped == {id(p) for p in task.parameters()}
    assert all(torch.equal(p, before[name]) for name, p in task.encoder.named_parameters())


def test_blocks_are_the_same_objects_each_time():
    task = tiny_task(label_names=["ham", "spam", "news"])
    with pytest.raises(RuntimeError, match="the head is not built"):
        task.blocks()
    task.head = task.build_head()
    assert [block.name for block in task.blocks()] == ["embeddings", "layer.0", "layer.1", "pooler", "head"]
    assert [block.depth for block in task.blocks()] == [4, 3, 2, 1, 0]
    assert all(a is b for a, b in zip(task.blocks(), task.blocks(), strict=True))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"label_names": ["ham", "spam"]}, "spam"),
        ({"label_names": ["ham", "spam"], "positive_label": "ham"}, "ham"),
        ({"label_names": ["ham", "spam", "news"]}, None),
        ({"label_names": ["ham", "spam", "news"], "positive_label": "news"}, "news"),
        ({}, None),
        ({"problem": "regression"}, None),
        ({"problem": "multi_label", "label_names": ["ham", "spam"]}, None),
    ],
)
def test_the_positive_label(arguments, expected):
    assert tiny_task(**arguments).positive_label == expected

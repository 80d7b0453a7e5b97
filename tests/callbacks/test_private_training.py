"""DP-SGD on a real tiny BERT: the paper's algorithm, the account, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from bertlab.callbacks.auto_freeze import AutoFreeze
from bertlab.callbacks.child_tuning import ChildTuning
from bertlab.callbacks.cost_weighted_loss import CostWeightedLoss
from bertlab.callbacks.exponential_average import ExponentialAverage
from bertlab.callbacks.fast_gradient import FastGradient
from bertlab.callbacks.l2_sp import L2Sp
from bertlab.callbacks.low_rank_adapters import LowRankAdapters
from bertlab.callbacks.private_training import PrivateTraining
from bertlab.callbacks.r_drop import RDrop
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.step_seed import seeded
from bertlab.callbacks.unfreezing_plans import Stage
from bertlab.data.text_classification import TextClassificationData
from bertlab.interfaces import TextBatch
from bertlab.samplers.poisson import PoissonSampler
from bertlab.schedules.constant import Constant
from tests.bits import assert_equal
from tests.callbacks.tiny import Timeline
from tests.callbacks.tiny_bert import STEPS, SaveEachStep, bert_data, bert_task, fit_bert, write_bert
from tests.tasks.tiny import TinyData, tiny_task, tiny_trainer

ROWS, BATCH = 96, 16
RATE, NORM, NOISE = 0.5, 0.3, 0.7


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(autouse=True)
def _cache(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTLAB_CACHE", str(project / "cache"))


def private(**keys: Any) -> PrivateTraining:
    return PrivateTraining(**({"noise_multiplier": NOISE, "max_gradient_norm": NORM, "delta": 1e-3} | keys))


def plain_task(project: Path) -> Any:
    """Without dropout, and with SGD, so that a difference in the gradient is seen."""
    task = bert_task(
        project,
        optimizer=lambda p: torch.optim.SGD(p, lr=RATE),
        schedule=Constant(),
        dropout=0.0,
        weight_decay=0.0,
    )
    for module in task.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return task


class Draws(Callback):
    """The rows of each optimizer step."""

    def __init__(self) -> None:
        self.steps: list[list[int]] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: TextBatch, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.steps.append([])
        self.steps[-1] += batch.index.tolist()


def dp_sgd(task: Any, data: Any, trainer: Trainer, steps: list[list[int]]) -> None:
    """Algorithm 1 of Abadi et al. 2016, each example run by itself."""
    texts = data.dataset("train")
    for number, rows in enumerate(steps):
        sums = {p: torch.zeros_like(p) for p in task.parameters()}
        for row in rows:
            loss = nn.functional.cross_entropy(task(texts.batch([row])), texts.labels[row][None])
            gradients = torch.autograd.grad(loss, list(sums))
            norm = torch.stack([g.norm() for g in gradients]).norm()
            for p, g in zip(sums, gradients, strict=True):
                sums[p] += g / max(1.0, float(norm) / NORM)
        generator = seeded(trainer, f"PrivateTraining/{number}")
        with torch.no_grad():
            for p, total in sums.items():
                noise = torch.empty_like(p).normal_(generator=generator)
                p.sub_(RATE * (total + NOISE * NORM * noise) / BATCH)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_it_is_the_algorithm_of_the_paper(accumulate: int, project: Path, tmp_path: Path) -> None:
    draws, strategy = Draws(), private()
    arguments: dict[str, Any] = {"before": (draws,), "max_epochs": 1, "accumulate_grad_batches": accumulate}
    task, _ = fit_bert([strategy], tmp_path, project, task=plain_task(project), **arguments)
    sizes = [len(rows) for rows in draws.steps]
    assert len(sizes) == STEPS
    assert len(set(sizes)) > 2  # Poisson samples
    reference = plain_task(project)
    reference.label_names = task.label_names
    torch.manual_seed(0)
    reference.head = reference.build_head()
    reference.head.load_state_dict(first_head(project, tmp_path))
    dp_sgd(reference.train(), bert_data(project), task.trainer, draws.steps)
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(task.state_dict()[name], value, rtol=1e-3, atol=1e-5, msg=name)
    start = plain_task(project).encoder.state_dict()
    moved = [not torch.equal(value, start[name]) for name, value in task.encoder.state_dict().items()]
    assert all(moved)
    assert not any(module._forward_hooks for module in task.head.modules())


def test_the_data_draws_as_ever_afterwards(project: Path, tmp_path: Path) -> None:
    data, kinds = bert_data(project), list[bool]()

    class Kind(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
            kinds.append(isinstance(data.train_sampler(), PoissonSampler))

        def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
            kinds.append(isinstance(data.train_sampler(), PoissonSampler))

    fit_bert([private()], tmp_path, project, data=data, before=(Kind(),), max_epochs=1)
    assert kinds == [True, True]
    assert not isinstance(data.train_sampler(), PoissonSampler)


def first_head(project: Path, root: Path) -> dict[str, torch.Tensor]:
    """Of a task made in the same way, as it is before training."""
    kept: dict[str, torch.Tensor] = {}

    class Keep(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
            kept.update({name: value.clone() for name, value in pl_module.head.state_dict().items()})
            trainer.should_stop = True

    fit_bert([], root, project, task=plain_task(project), before=(Keep(),), max_steps=1)
    return kept


def test_killed_and_resumed_it_has_spent_the_same(project: Path, tmp_path: Path) -> None:
    def run(**more: Any) -> tuple[Any, Any, Timeline, PrivateTraining]:
        timeline, strategy = Timeline(), private(noise_multiplier=None, target_epsilon=4.0)
        more["before"] = (timeline, *more.get("before", ()))
        strategies = [strategy, LowRankAdapters(peft.LoraConfig(r=2, target_modules="all-linear"))]
        return *fit_bert(strategies, tmp_path, project, **more), timeline, strategy

    whole = run(before=(SaveEachStep(),), enable_checkpointing=True, max_epochs=2)
    resumed = run(ckpt_path=tmp_path / "step=8.ckpt", max_epochs=2)
    assert_equal(dict(resumed[0].state_dict()), dict(whole[0].state_dict()))
    assert resumed[1].losses == whole[1].losses[8:]
    spent = whole[3].budget
    assert (spent.steps, resumed[3].budget.state_dict()) == (12, spent.state_dict())
    assert 3.9 < spent.epsilon() <= 4.0
    metrics = whole[0].trainer.callback_metrics
    assert float(metrics["privacy/epsilon"]) == pytest.approx(spent.epsilon())
    assert float(metrics["privacy/delta"]) == pytest.approx(1e-3)
    events = [(step, what, facts) for step, name, what, facts in whole[2].events if name == "PrivateTraining"]
    noise = next(facts for _, what, facts in events if what == "noise")
    assert (noise["rate"], noise["rows"], noise["secure"]) == (BATCH / ROWS, ROWS, False)
    told = [(step, facts["steps"], facts["epsilon"]) for step, what, facts in events if what == "spent"]
    assert [(step, steps) for step, steps, _ in told] == [(6, 6), (12, 12)]
    assert 0 < told[0][2] < told[1][2] == spent.epsilon()

    with pytest.raises(
        ValueError, match=r"target_epsilon is 4.0, and ε would be .* after the 10 steps to come: 8 were"
    ):
        run(ckpt_path=tmp_path / "step=8.ckpt", max_epochs=3)


def test_the_account_is_of_the_weights(project: Path, tmp_path: Path) -> None:
    """Whoever trains a task goes on with what its weights have cost; other weights begin anew."""

    def train(strategy: PrivateTraining, task: Any) -> int:
        fit_bert([strategy], tmp_path, project, task=task, max_epochs=1)
        return strategy.budget.steps

    first, second, third = (plain_task(project) for _ in range(3))
    strategy = private()
    _, seen = fit_bert(
        [strategy],
        tmp_path,
        project,
        task=first,
        before=(SaveEachStep(),),
        max_epochs=1,
        enable_checkpointing=True,
    )
    assert strategy.budget.steps == len(seen.losses) == 6
    assert train(strategy, first) == 12  # another trainer
    assert train(strategy, second) == 6

    # Weights of a checkpoint that is only evaluated.
    other, data = private(), bert_data(project)
    tiny_trainer(tmp_path, callbacks=[other]).validate(
        third, data, ckpt_path=tmp_path / "step=4.ckpt", weights_only=True, verbose=False
    )
    assert train(other, third) == 4 + 6
    assert train(other, plain_task(project)) == 6
    keeping = private(noise_multiplier=None, target_epsilon=4.0)
    train(keeping, third)
    with pytest.raises(
        ValueError, match=r"target_epsilon is 4.0, and ε would be .* after the 6 steps to come: 6 were"
    ):
        train(keeping, third)


def test_nothing_drawn_is_a_step_of_noise_alone(project: Path, tmp_path: Path) -> None:
    class Nothing(TextClassificationData):
        def train_dataloader(self) -> Any:
            loader = super().train_dataloader()
            vars(loader.sampler)["rate"] = 0.0
            return loader

    strategy = private(noise_multiplier=2.0)
    data = bert_data(project, Nothing)
    task, seen = fit_bert([strategy], tmp_path, project, task=plain_task(project), data=data, max_epochs=1)
    assert seen.losses == [0.0] * STEPS
    assert strategy.budget.steps == STEPS
    start = plain_task(project).word_embedding.weight
    moves = (task.word_embedding.weight - start).detach()
    # Six steps of a deviation of rate × σ × C / 16 each.
    assert float(moves.std()) == pytest.approx(RATE * 2.0 * NORM / BATCH * STEPS**0.5, rel=0.05)


def test_secure_noise_and_draws_do_not_follow_from_the_seed(project: Path, tmp_path: Path) -> None:
    found, draws = [], [Draws(), Draws()]
    for seen in draws:
        arguments = {"before": (seen,), "max_epochs": 1}
        found.append(
            fit_bert([private(secure=True)], tmp_path, project, task=plain_task(project), **arguments)[0]
        )
    assert draws[0].steps != draws[1].steps
    assert not torch.equal(found[0].word_embedding.weight, found[1].word_embedding.weight)


def test_stages_and_averages_beside_it(project: Path, tmp_path: Path) -> None:
    stages = [Stage(["head"], until_step=3), Stage(["layer.1-head"], until_step=6), Stage(["all"])]
    strategies = [private(), StagedUnfreezing(stages=stages), ExponentialAverage()]
    _, seen = fit_bert(strategies, tmp_path, project, max_epochs=2, precision="bf16-mixed")
    assert len(seen.losses) == 12


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (RDrop(), "loss"), (FastGradient(), "inputs, loss, passes, word_vectors"), (L2Sp(0.1), "gradients"),
        (ChildTuning("task_driven"), "gradients"), (AutoFreeze(), "gradients"), (CostWeightedLoss(), "class_weights"),
    ],
)  # fmt: skip
def test_strategies_outside_the_account_are_refused(
    other: Any, what: str, project: Path, tmp_path: Path
) -> None:
    name = type(other).__name__
    with pytest.raises(
        ValueError, match=f"PrivateTraining accounts for .* and {name} touches {what} outside that account"
    ):
        fit_bert([private(), other], tmp_path, project)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"max_tokens": 500}, "max_tokens 500"), ({"resampling_power": 0.5}, "resampling_power 0.5")],
)
def test_draws_that_look_at_other_rows_are_refused(
    options: dict[str, Any], message: str, project: Path, tmp_path: Path
) -> None:
    data = TextClassificationData(
        str(project / "model"), str(project / "texts.csv"), batch_size=16, **options
    )
    with pytest.raises(ValueError, match=f"Poisson samples take .*{message}"):
        fit_bert([private()], tmp_path, project, data=data)


def test_data_that_draws_no_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        TypeError, match=r"needs data that draws Poisson samples.*TinyData has no draw_poisson"
    ):
        tiny_trainer(tmp_path, callbacks=[private()]).fit(tiny_task(), datamodule=TinyData())


def test_a_delta_that_protects_nobody(project: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"delta is 0.02, and the training split has 96 rows"):
        fit_bert([private(delta=0.02)], tmp_path, project)


def test_a_target_that_no_noise_keeps(project: Path, tmp_path: Path) -> None:
    strategy = private(noise_multiplier=None, target_epsilon=1e-4)
    with pytest.raises(
        ValueError, match=r"^PrivateTraining\.target_epsilon: no noise keeps 0\.0001 in \d+ steps"
    ):
        fit_bert([strategy], tmp_path, project)


def test_a_weight_that_is_used_otherwise_is_found(project: Path, tmp_path: Path) -> None:
    class Sneaky(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            head: Any = pl_module.head
            own = head.forward
            head.forward = lambda *args: own(*args) + (head.output.weight**2).sum() * torch.eye(2)[0]

    with pytest.raises(RuntimeError, match="uses it otherwise than by calling its layer, or mixes sequences"):
        fit_bert([private()], tmp_path, project, before=(Sneaky(),))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "takes target_epsilon or noise_multiplier, one of them"),
        ({"target_epsilon": 1.0, "noise_multiplier": 1.0}, "one of them"),
        ({"noise_multiplier": 0.0}, "noise_multiplier takes a number above 0, got 0.0"),
        (
            {"target_epsilon": 1.0, "max_gradient_norm": -1.0},
            "max_gradient_norm takes a number above 0, got -1.0",
        ),
        ({"target_epsilon": 1.0, "delta": 1.0}, r"delta takes a number in \(0, 1\), got 1.0"),
    ],
)
def test_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PrivateTraining(**arguments)

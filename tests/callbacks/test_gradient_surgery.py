"""GradientSurgery on two real tasks: what each parameter gets, with others, and where it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from bertlab.callbacks.child_tuning import ChildTuning
from bertlab.callbacks.gradient_surgery import GradientSurgery
from bertlab.callbacks.l2_sp import L2Sp
from bertlab.callbacks.r_drop import RDrop
from bertlab.callbacks.sharpness_aware import SharpnessAware
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.step_seed import StepSeed, seeded
from bertlab.callbacks.strategy import Strategy
from bertlab.callbacks.unfreezing_plans import Stage
from bertlab.losses.gradient_surgery import random_orders
from bertlab.tasks.sequence_classification import SequenceClassification
from bertlab.tasks.token_classification import TokenClassification
from tests.losses.test_gradient_surgery import reference
from tests.ranks import on_two_ranks
from tests.tasks.tiny import TinyData, tiny_task, tiny_trainer
from tests.tasks.tiny_mixture import TinyMixture, tiny_mixture

BOTH = (("texts", "words"),) * 4


class Compare(Callback):
    """What each step gave, and what plain torch makes of the same batches and weights."""

    def __init__(self) -> None:
        self.given: list[dict[str, Tensor]] = []
        self.expected: list[dict[str, Tensor]] = []
        self.products: list[float] = []
        self._batches: list[Any] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._batches.append(batch)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._batches = []

    def after_edits(self, trainer: Any, task: Any) -> None:
        """Called with the gradients that the optimizer gets."""
        named = dict(task.named_parameters())
        self.given.append({name: p.grad.clone() for name, p in named.items()})
        found: dict[str, list[Tensor]] = {}
        for name in ("texts", "words"):
            losses = [
                type(task).training_loss(task, part)
                for batch in self._batches
                for part in batch.parts
                if part.task == name
            ]
            loss = torch.stack(losses).mean()
            gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
            found[name] = [
                torch.zeros_like(p) if g is None else g
                for p, g in zip(named.values(), gradients, strict=True)
            ]
        shared = [index for index, name in enumerate(named) if name.startswith("encoder")]
        flat = [torch.cat([found[name][i].flatten() for i in shared]).double() for name in ("texts", "words")]
        self.products.append(float(flat[0] @ flat[1]))
        orders = random_orders(2, seeded(trainer, f"GradientSurgery/{trainer.global_step}"))
        parts = (reference(flat, orders) / 2).split([found["texts"][i].numel() for i in shared])
        expected = {name: (a + b) / 2 for name, a, b in zip(named, *found.values(), strict=True)}
        for index, part in zip(shared, parts, strict=True):
            name = list(named)[index]
            expected[name] = part.view_as(named[name]).float()
        self.expected.append(expected)


class Last(Strategy):
    """Acts after all others on the gradients."""

    touches = {"gradients"}  # noqa: RUF012
    nesting = -1

    def __init__(self, compare: Compare) -> None:
        self.compare = compare

    def apply(self, run: Any) -> None:
        run.edit_gradients(lambda: self.compare.after_edits(run.trainer, run.trainer.lightning_module))


def fit(root: Path, *callbacks: Callback, steps: Any = BOTH, splits: int = 1, **settings: Any) -> Any:
    task = settings.pop("task", None) or tiny_mixture()
    trainer = tiny_trainer(
        root, max_epochs=2, accumulate_grad_batches=splits, callbacks=[StepSeed(0), *callbacks], **settings
    )
    trainer.fit(task, datamodule=TinyMixture(steps, splits=splits * settings.get("devices", 1)))
    return task


@pytest.mark.parametrize("splits", [1, 3])
def test_each_parameter_gets_what_algorithm_1_says_and_heads_what_they_had(
    splits: int, tmp_path: Path
) -> None:
    compare = Compare()
    fit(tmp_path, compare, GradientSurgery(), Last(compare), splits=splits)
    assert len(compare.given) == 8
    assert any(product < 0 for product in compare.products)
    assert any(product > 0 for product in compare.products)
    for given, expected in zip(compare.given, compare.expected, strict=True):
        assert any(name.startswith("head.texts") for name in given)
        for name, gradient in expected.items():
            torch.testing.assert_close(given[name], gradient, rtol=1e-4, atol=1e-7, msg=name)


def weights_on(ranks: int, root: Path) -> dict[str, Tensor]:
    strategy = "ddp" if ranks > 1 else "auto"
    task = fit(root, GradientSurgery(), splits=4 // ranks, devices=ranks, strategy=strategy)
    return {name: value.clone() for name, value in task.state_dict().items()}


def test_two_ranks_project_the_mean_of_their_gradients(tmp_path: Path) -> None:
    alone = weights_on(1, tmp_path)
    first, second = on_two_ranks(weights_on, tmp_path, 2, tmp_path)
    for name, weight in alone.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], weight, rtol=1e-3, atol=1e-5)


def test_steps_of_one_task_are_as_without_it(tmp_path: Path) -> None:
    steps = (("texts",), ("words",)) * 2
    plain, with_it = fit(tmp_path, steps=steps), fit(tmp_path, GradientSurgery(), steps=steps)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, with_it.state_dict()[name]), name


def test_where_the_encoder_is_frozen_it_says_so(tmp_path: Path) -> None:
    head_alone = StagedUnfreezing(stages=[Stage(["head"])])
    with pytest.warns(UserWarning, match=r"GradientSurgery would do nothing in this training: .*frozen"):
        fit(tmp_path, head_alone, GradientSurgery())


def test_strategies_that_change_gradients_see_the_projected_ones(tmp_path: Path) -> None:
    compare = Compare()
    fit(tmp_path, compare, GradientSurgery(), ChildTuning(share=0.5), Last(compare))
    for given, expected in zip(compare.given, compare.expected, strict=True):
        name = "encoder.model.encoder.layer.0.output.dense.weight"
        kept = given[name] != 0
        assert 0.3 < kept.float().mean() < 0.7
        torch.testing.assert_close(given[name][kept], 2 * expected[name][kept], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("other", [SharpnessAware, RDrop, L2Sp])
def test_it_goes_with_strategies_of_losses_and_gradients(other: Any, tmp_path: Path) -> None:
    drops: dict[str, Any] = {
        "texts": lambda encoder: SequenceClassification(encoder, dropout=0.3, pool="mean"),
        "words": lambda encoder: TokenClassification(encoder, dropout=0.3),
    }
    plain = fit(tmp_path, GradientSurgery(), task=tiny_mixture(tasks=drops))
    both = fit(tmp_path, other(), GradientSurgery(), task=tiny_mixture(tasks=drops))
    changed = [
        not torch.equal(value, both.state_dict()[name]) and bool(both.state_dict()[name].isfinite().all())
        for name, value in plain.state_dict().items()
        if name.endswith("dense.weight")
    ]
    assert all(changed)


def test_one_task_is_refused(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, callbacks=[GradientSurgery()])
    with pytest.raises(
        TypeError, match="GradientSurgery works on the gradients of several tasks, and Sequence"
    ):
        trainer.fit(tiny_task(), datamodule=TinyData())


def test_data_with_one_task_in_a_step_is_refused(tmp_path: Path) -> None:
    data = TinyMixture()
    data.tasks_per_step = 1  # pyright: ignore[reportAttributeAccessIssue]
    trainer = tiny_trainer(tmp_path, callbacks=[GradientSurgery()])
    with pytest.raises(ValueError, match=r"data\.init_args\.tasks_per_step is 1: set it to 2 or more"):
        trainer.fit(tiny_mixture(), datamodule=data)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from bertlab.callbacks.bit_fit import BitFit
from bertlab.callbacks.mixout import Mixout, mixed
from bertlab.callbacks.r_drop import RDrop
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.unfreezing_plans import Stage
from bertlab.encoders.dropout import dropout
from tests.callbacks.real import Gradients, fit_bert
from tests.callbacks.tiny import TinyTask, fit
from tests.tasks.tiny import TinyData, tiny_task


class Seen(Callback):
    """The weights that the model has in each forward, of one of its layers."""

    def __init__(self) -> None:
        self.weights: list[torch.Tensor] = []
        self.trained: list[torch.Tensor] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        layer = next(m for m in pl_module.layers[0].modules() if isinstance(m, torch.nn.Linear))
        layer.register_forward_pre_hook(lambda module, _: self.weights.append(module.weight.detach().clone()))

    def on_train_batch_start(self, trainer: Any, pl_module: TinyTask, batch: Any, batch_idx: int) -> None:
        self.trained.append(pl_module.layers[0][0].weight.detach().clone())


def test_all_that_goes_out_from_a_neuron_is_kept_or_replaced() -> None:
    generator = torch.Generator().manual_seed(0)
    value, start = torch.randn(2, 3, 1000, generator=generator)
    found = mixed(value, start, 0.75, generator)
    kept = torch.isclose(found, 4 * value - 3 * start, atol=1e-5).all(0)  # (w − p·u) / (1 − p)
    replaced = (found == start).all(0)  # (u − p·u) / (1 − p)
    assert torch.equal(kept, ~replaced)
    assert kept.float().mean() == pytest.approx(0.25, abs=0.05)


def test_towards_zero_it_is_dropout() -> None:
    """Lee et al. 2020, section 3: mixout(0) of a linear layer is dropout of its inputs."""
    weight, inputs = torch.randn(5, 8), torch.randn(2, 8)
    masks = [torch.Generator().manual_seed(3) for _ in range(2)]
    dropped = inputs * dropout(torch.ones(8), 0.5, training=True, generator=masks[0])
    output = inputs @ mixed(weight, torch.zeros(5, 8), 0.5, masks[1]).T
    torch.testing.assert_close(output, dropped @ weight.T)


def test_its_expectation_is_the_weight_and_its_gradient_the_masks() -> None:
    generator = torch.Generator().manual_seed(0)
    value = torch.tensor([[2.0, -1.0], [3.0, 0.5]], requires_grad=True)
    start = torch.ones(2, 2)
    found = torch.stack([mixed(value, start, 0.5, generator) for _ in range(4000)])
    torch.testing.assert_close(found.mean(0), value, atol=0.15, rtol=0.0)
    seen = set()
    for _ in range(20):
        (gradient,) = torch.autograd.grad(mixed(value, start, 0.5, generator).sum(), value)
        assert torch.equal(gradient[0], gradient[1])
        seen |= set(gradient.flatten().tolist())
    assert seen == {0.0, 2.0}


def test_what_the_model_sees(tmp_path: Path) -> None:
    seen, start = Seen(), TinyTask().layers[0][0].weight.detach()
    fit([Mixout(0.5)], tmp_path, callbacks=(seen,), task=TinyTask(dropout=0.0), epochs=1)
    training = seen.weights[:6]
    assert torch.equal(training[0], start)  # before the first step both are the same
    masks = []
    for weight, value in zip(training[1:], seen.trained[1:], strict=True):
        assert (value != start).any(0).all()  # something that goes out from each of the 8 neurons has moved
        replaced = (weight == start).all(0)
        corrected = torch.isclose(weight, 2 * value - start, atol=1e-6).all(0)
        assert torch.equal(replaced, ~corrected)
        masks.append(replaced)
    assert 0.25 < torch.stack(masks).float().mean() < 0.75
    assert not torch.equal(masks[0], masks[1])


def test_validation_sees_the_weights_themselves(tmp_path: Path) -> None:
    seen = Seen()
    task, _ = fit([Mixout(0.5)], tmp_path, callbacks=(seen,), epochs=1)
    assert torch.equal(seen.weights[6], task.layers[0][0].weight)


def test_one_mask_for_all_micro_batches_and_one_for_each_pass(tmp_path: Path) -> None:
    seen = Seen()
    fit([Mixout(0.5), RDrop()], tmp_path, callbacks=(seen,), epochs=1, accumulate_grad_batches=2)
    first, second = (
        seen.weights[4:8:2],
        seen.weights[5:8:2],
    )  # of the second step, two micro-batches of two passes
    assert torch.equal(*first)
    assert torch.equal(*second)
    assert not torch.equal(first[0], second[0])


def test_micro_batches_give_the_gradient_of_the_whole(tmp_path: Path) -> None:
    found = []
    for splits in (1, 4):
        gradients = Gradients()
        strategies = [Mixout(0.5), RDrop(2.0)]
        data = TinyData(rows=96, splits=splits)
        fit_bert(
            strategies, tmp_path, callbacks=(gradients,), data=data, accumulate_grad_batches=splits,
            task=tiny_task(optimizer=lambda p: torch.optim.SGD(p, lr=0.5)),
        )  # fmt: skip
        found.append(gradients.steps[-1])
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-6, msg=name)


def test_only_matrices_of_the_encoder_and_not_what_is_frozen(tmp_path: Path) -> None:
    class Watch(Callback):
        names: set[str] = set()  # noqa: RUF012

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            before = {name: p.detach().clone() for name, p in pl_module.named_parameters()}

            def compare(module: Any, args: Any) -> None:
                for name, value in module.named_parameters():
                    if module.training and not torch.equal(value, before[name]):
                        self.names.add(name)

            if trainer.global_step == 5:
                pl_module.register_forward_pre_hook(compare)

    watch = Watch()
    stages = [Stage(["all"], until_step=3), Stage(["layer.1-head"])]
    fit_bert([Mixout(0.9), StagedUnfreezing(stages=stages)], tmp_path, callbacks=(watch,))
    assert watch.names
    assert all(name.endswith("weight") and "Norm" not in name for name in watch.names)
    assert all(".layer.1." in name or "pooler" in name for name in watch.names)


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_a_share_out_of_range(p: float) -> None:
    with pytest.raises(ValueError, match=rf"Mixout.p takes a share in \[0, 1\), got {p}"):
        Mixout(p)


@pytest.mark.parametrize(
    ("strategies", "message"),
    [
        ([Mixout(0.0)], "Mixout would do nothing in this training: p is 0"),
        ([Mixout(), BitFit()], "Mixout would do nothing.*all that it works on is frozen from start to end"),
        ([Mixout(), StagedUnfreezing(stages=[Stage(["head"])])], "all that it works on is frozen"),
    ],
)
def test_nothing_to_mix_is_said(strategies: list, message: str, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=message):
        fit(strategies, tmp_path, epochs=1)

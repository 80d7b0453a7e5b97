from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bertlab.callbacks.bit_fit import BitFit
from bertlab.callbacks.l2_sp import L2Sp
from bertlab.callbacks.reinit_top_layers import ReinitTopLayers
from bertlab.tasks.pretraining import Pretraining
from tests.callbacks.real import Gradients, fit_bert
from tests.callbacks.tiny import TinyTask, fit
from tests.tasks.tiny import TinyData, tiny_encoder, tiny_task, tiny_trainer
from tests.tasks.tiny_pretraining import tiny_task as pretraining_task


def sgd(rate: float, **arguments: Any) -> Any:
    encoder = tiny_encoder()
    return tiny_task(
        encoder=encoder, optimizer=lambda p: torch.optim.SGD(p, lr=rate), weight_decay=0.0, **arguments
    )


def test_the_gradient_is_that_of_the_penalty(tmp_path: Path) -> None:
    """Step by step against autograd: both runs are at the same weights, since the rate is 0 in one of them."""

    class Moved(Gradients):
        """Moves all weights first, so that they are away from their start."""

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self.start = {name: p.detach().clone() for name, p in pl_module.named_parameters()}
            generator = torch.Generator().manual_seed(0)
            with torch.no_grad():
                for parameter in pl_module.parameters():
                    parameter.add_(torch.randn(parameter.shape, generator=generator))

    plain, pulled = Moved(), Moved()
    fit_bert([], tmp_path, callbacks=(plain,), task=sgd(0.0))
    # The strategy's edit comes before the watcher's hook if it is listed first.
    task = sgd(0.0)
    trainer = tiny_trainer(tmp_path, callbacks=[L2Sp(alpha=0.3, beta=0.2), pulled])
    trainer.fit(task, datamodule=TinyData())
    for name, parameter in task.named_parameters():
        leaf = parameter.detach().clone().requires_grad_()
        if name.startswith("encoder."):
            penalty = 0.15 * (leaf - pulled.start[name]).square().sum()
        else:
            penalty = 0.1 * leaf.square().sum() * (leaf.dim() > 1)
        (expected,) = torch.autograd.grad(penalty, leaf)
        for before, after in zip(plain.steps, pulled.steps, strict=True):
            difference = after[name] - before[name]  # type: ignore[operator]
            torch.testing.assert_close(difference, expected, rtol=1e-3, atol=1e-5, msg=name)


def test_a_strong_pull_brings_back_the_start(tmp_path: Path) -> None:
    away = []
    for strategies in ([], [L2Sp(alpha=1.0, beta=0.0)]):
        task = fit_bert(strategies, tmp_path, task=sgd(0.5), max_epochs=3)
        start = dict(tiny_encoder().named_parameters())
        moved = (p.detach() - start[name].detach() for name, p in task.encoder.named_parameters())
        away.append(sum(float(difference.square().sum()) for difference in moved))
    assert away[1] < 0.2 * away[0]


def test_once_a_step_whatever_the_micro_batches(tmp_path: Path) -> None:
    weights = []
    for splits in (1, 4):
        task = fit_bert(
            [L2Sp(alpha=0.5, beta=0.5)],
            tmp_path,
            task=sgd(0.5),
            data=TinyData(splits=splits),
            accumulate_grad_batches=splits,
        )
        weights.append(dict(task.named_parameters()))
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_a_tied_decoder_is_drawn_to_its_start_and_not_to_zero() -> None:
    task: Pretraining = pretraining_task("mlm")
    task.head = task.build_head()
    words = task.encoder.word_embedding.weight
    head = list(task.blocks()[-1].parameters())
    assert any(p is words for p in head)

    class Stub:
        blocks = task.encoder_blocks()
        all_blocks = task.blocks()

        def starting_weight(self, parameter: torch.Tensor) -> torch.Tensor | None:
            return torch.ones_like(parameter) if parameter is words else None

        def edit_gradients(self, edit: Any) -> None:
            self.edit = edit

    stub = Stub()
    L2Sp(alpha=1.0, beta=1.0).apply(stub)  # type: ignore[arg-type]
    for parameter in task.parameters():
        parameter.grad = torch.zeros_like(parameter)
    stub.edit()
    torch.testing.assert_close(words.grad, words.detach() - 1)


def test_layers_drawn_anew_are_drawn_to_their_new_weights(tmp_path: Path) -> None:
    task, _ = fit([ReinitTopLayers(1), L2Sp(alpha=100.0)], tmp_path, task=TinyTask(dropout=0.0))
    plain, _ = fit([ReinitTopLayers(1)], tmp_path, task=TinyTask(dropout=0.0))
    fresh = TinyTask().layers[2][0].weight
    # At a rate of 0.01 for 18 steps it can go 0.18 away, and the pull brings it back.
    assert not torch.allclose(task.layers[2][0].weight, fresh, atol=0.05)
    assert not torch.allclose(task.layers[2][0].weight, plain.layers[2][0].weight, atol=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": -1.0}, "L2Sp.alpha takes a number of 0 or more, got -1.0"),
        ({"beta": float("inf")}, "L2Sp.beta takes a number of 0 or more, got inf"),
        ({"alpha": float("nan")}, "L2Sp.alpha takes a number of 0 or more, got nan"),
    ],
)
def test_strengths_out_of_range(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        L2Sp(**arguments)


@pytest.mark.parametrize(
    ("strategies", "message"),
    [([L2Sp(0.0, 0.0)], "L2Sp would do nothing in this training: alpha and beta are 0")],
)
def test_nothing_to_draw_is_said(strategies: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=message):
        fit(strategies, tmp_path, epochs=1)


def test_biases_alone_are_something_to_draw(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    fit([L2Sp(), BitFit()], tmp_path, epochs=1)
    assert not [str(w.message) for w in recwarn if "would do nothing" in str(w.message)]

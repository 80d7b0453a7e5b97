"""The original optimizer against an independent implementation of Google's update, and its contract."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertForPreTraining

from bertlab.encoders.blocks import blocks_of
from bertlab.interfaces import Block
from bertlab.optimizers.bert_adam import BertAdam
from bertlab.optimizers.parameter_groups import build_optimizer, parameter_groups
from bertlab.schedules.linear_from_start import LinearFromStart
from bertlab.sources.google_names import torch_name
from tests.google_adam import GoogleAdam, clip
from tests.google_bert import shapes, value

STEPS = 12


def tiny_bert() -> tuple[BertForPreTraining, dict[str, nn.Parameter], list[Block]]:
    from transformers import BertConfig

    from tests.google_bert import CONFIG

    model = BertForPreTraining(BertConfig(**CONFIG))
    parameters = dict(model.named_parameters())
    named = {variable: parameters[torch_name(variable)] for variable in shapes()}
    return model, named, [*blocks_of(model.bert), Block("head", (model.cls,), 0)]


def oriented(variable: str, array: np.ndarray) -> np.ndarray:
    return array.T if variable.endswith("/kernel") else array


def test_a_training_run_is_google_s():
    """All variables of a BERT through clipping, schedule and update: each excluded and decayed one as Google's."""
    model, named, blocks = tiny_bert()
    values = {variable: value(variable, shape) for variable, shape in shapes().items()}
    with torch.no_grad():
        for variable, parameter in named.items():
            parameter.copy_(torch.from_numpy(oriented(variable, values[variable]).copy()))
    optimizer = build_optimizer(
        lambda groups: BertAdam(groups, lr=1e-2), parameter_groups(blocks, None, model=model)
    )
    schedule = LinearFromStart(warmup_fraction=1 / 3)
    google = GoogleAdam()
    for step in range(STEPS):
        gradients = {n: value(f"{n} {step}", shape) * 10.0 ** (step % 5 - 3) for n, shape in shapes().items()}
        gradients = {n: g.astype(np.float32) for n, g in gradients.items()}
        for variable, parameter in named.items():
            parameter.grad = torch.from_numpy(oriented(variable, gradients[variable]).copy())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rate = 1e-2 * schedule(step / STEPS)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        clipped = clip(gradients)
        values = {n: google.apply(n, v, clipped[n], rate) for n, v in values.items()}
    for variable, parameter in named.items():
        expected = oriented(variable, values[variable])
        np.testing.assert_allclose(
            parameter.detach().numpy(), expected, rtol=2e-5, atol=1e-6, err_msg=variable
        )


def test_by_hand():
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = BertAdam([weight], lr=0.1, betas=(0.5, 0.75), eps=0.5, weight_decay=0.25)
    weight.grad = torch.tensor([4.0])
    optimizer.step()
    # m = 2, v = 4: 2 / (2 + 0.5) + 0.25·2 = 1.3
    assert weight.item() == pytest.approx(2 - 0.1 * 1.3)
    weight.grad = torch.tensor([-2.0])
    before = weight.item()
    optimizer.step()
    # m = 1 - 1 = 0, v = 3 + 1 = 4
    assert weight.item() == pytest.approx(before - 0.1 * 0.25 * before)


def test_is_adamw_once_the_moments_have_settled():
    """With a constant gradient both moments reach it, whatever the correction; ε differs by nothing visible."""
    ours, theirs = (nn.Parameter(torch.tensor([1.0, -3.0])) for _ in range(2))
    a = BertAdam([ours], lr=0.0, eps=1e-8)
    b = torch.optim.AdamW([theirs], lr=0.0, eps=1e-8, weight_decay=0.01)
    for step in range(6_001):
        ours.grad = torch.tensor([0.3, -0.7])
        theirs.grad = torch.tensor([0.3, -0.7])
        if step == 6_000:
            a.param_groups[0]["lr"] = b.param_groups[0]["lr"] = 0.1
        a.step()
        b.step()
    torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=1e-3)


def test_what_has_no_gradient_stays():
    frozen, trained = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = BertAdam([frozen, trained], lr=0.1)
    trained.grad = torch.ones(3)
    optimizer.step()
    assert torch.equal(frozen, torch.ones(3))
    assert frozen not in optimizer.state
    assert not torch.equal(trained, torch.ones(3))


def test_goes_on_from_its_state_to_the_bit():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(5, 4))
    gradients = torch.randn(6, 5, 4)
    optimizer = BertAdam([weight], lr=0.01)
    for gradient in gradients[:3]:
        weight.grad = gradient
        optimizer.step()
    other = nn.Parameter(weight.detach().clone())
    resumed = BertAdam([other], lr=0.5)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for gradient in gradients[3:]:
        for parameter, taker in ((weight, optimizer), (other, resumed)):
            parameter.grad = gradient
            taker.step()
    assert torch.equal(weight, other)


def test_many_parameters_of_several_types_are_one_by_one_the_same():
    torch.manual_seed(0)
    weights = [
        torch.randn(s, dtype=t)
        for s, t in (((3, 4), torch.float32), ((7,), torch.float64), ((), torch.float32))
    ]
    together = [nn.Parameter(w.clone()) for w in weights]
    alone = [nn.Parameter(w.clone()) for w in weights]
    optimizers = [BertAdam(together, lr=0.1), *(BertAdam([p], lr=0.1) for p in alone)]
    for _ in range(3):
        for one, other in zip(together, alone, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one, other)


def test_a_closure_is_called_with_gradients_on():
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = BertAdam([weight], lr=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 1.0
    assert weight.item() < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, "BertAdam.lr takes a number of 0 or more, got -1.0"),
        ({"eps": float("nan")}, "BertAdam.eps takes a number of 0 or more, got nan"),
        ({"weight_decay": -0.1}, "BertAdam.weight_decay takes a number of 0 or more, got -0.1"),
        ({"betas": (0.9, 1.0)}, r"BertAdam.betas takes two numbers in \[0, 1\), got \(0.9, 1.0\)"),
        ({"betas": (0.9,)}, r"BertAdam.betas takes two numbers in \[0, 1\), got \(0.9,\)"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        BertAdam([nn.Parameter(torch.ones(1))], **arguments)


def test_sparse_gradients_are_refused():
    table = nn.Embedding(4, 2, sparse=True)
    optimizer = BertAdam(table.parameters())
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="takes dense gradients"):
        optimizer.step()

"""One batch, many micro-batches and many ranks give one gradient; torch's mean within a micro-batch does not."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bertlab.losses.cross_entropy import CrossEntropy
from bertlab.losses.reduction import weighted_mean
from tests.ranks import on_two_ranks

CLASSES, G = 3, 16
WEIGHTS = torch.tensor([0.2, 1.0, 7.0])


def step(seed: int = 0) -> tuple[nn.Linear, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    model = nn.Linear(5, CLASSES)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    labels = torch.multinomial(torch.tensor([0.7, 0.25, 0.05]), G, replacement=True, generator=generator)
    return model, torch.randn(G, 5, generator=generator), labels


def share(model: nn.Module, x: Tensor, labels: Tensor, rows: Tensor, micro_batches: int) -> Tensor:
    losses = CrossEntropy()(model(x[rows]), labels[rows])
    return weighted_mean(losses, WEIGHTS[labels[rows]], WEIGHTS[labels], micro_batches)


def gradient(parts: list[Tensor], ranks: int = 1) -> tuple[float, Tensor]:
    """The loss and gradient of a step, whose micro-batches a loop divides and DDP means over ranks."""
    model, x, labels = step()
    loss = 0.0
    for rows in parts:
        part = share(model, x, labels, rows, len(parts)) / (len(parts) // ranks) / ranks
        part.backward()
        loss += float(part.detach())
    return loss, model.weight.grad


def test_one_batch_is_torchs_weighted_cross_entropy():
    model, x, labels = step()
    reference = nn.CrossEntropyLoss(weight=WEIGHTS)(model(x), labels)
    torch.testing.assert_close(share(model, x, labels, torch.arange(G), 1), reference)


@pytest.mark.parametrize(
    ("sizes", "ranks"),
    [([4, 4, 4, 4], 1), ([1, 2, 3, 10], 1), ([1] * 16, 1), ([8, 8], 2), ([1, 2, 3, 10], 2)],
)
def test_any_split_gives_the_gradient_of_the_whole_step(sizes, ranks):
    whole_loss, whole = gradient([torch.arange(G)])
    loss, split = gradient(list(torch.arange(G).split(sizes)), ranks)
    assert loss == pytest.approx(whole_loss, rel=1e-6)
    torch.testing.assert_close(split, whole, rtol=1e-5, atol=1e-7)


def test_torchs_mean_within_a_micro_batch_changes_the_objective():
    _, whole = gradient([torch.arange(G)])
    model, x, labels = step()
    for rows in torch.arange(G).split(4):
        (nn.CrossEntropyLoss(weight=WEIGHTS)(model(x[rows]), labels[rows]) / 4).backward()
    assert (model.weight.grad - whole).abs().max() > 0.1 * whole.abs().max()


def _ddp_gradient(accumulate: int) -> tuple[float, Tensor]:
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    model, x, labels = step()
    wrapped = DistributedDataParallel(model)
    parts = torch.arange(G).split([1, 2, 3, 10])[rank * accumulate :][:accumulate]
    total = torch.zeros(())
    for number, rows in enumerate(parts):
        wrapped.require_backward_grad_sync = number == accumulate - 1
        loss = share(wrapped, x, labels, rows, 2 * accumulate) / accumulate
        loss.backward()
        total += loss.detach()
    torch.distributed.all_reduce(total)
    return float(total) / 2, model.weight.grad


def test_two_real_ranks_give_the_gradient_of_the_whole_step(tmp_path: Path):
    (loss0, first), (loss1, second) = on_two_ranks(_ddp_gradient, tmp_path, 2)
    whole_loss, whole = gradient([torch.arange(G)])
    assert loss0 == loss1 == pytest.approx(whole_loss, rel=1e-6)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, whole, rtol=1e-5, atol=1e-7)


@settings(max_examples=60)
@given(
    data=st.lists(st.tuples(st.floats(0, 50), st.floats(0, 9)), min_size=1, max_size=12),
    parts=st.integers(1, 4),
)
def test_the_mean_of_the_shares_is_the_weighted_mean(data, parts):
    losses, weights = (torch.tensor(column, dtype=torch.float64) for column in zip(*data, strict=True))
    shares = [
        weighted_mean(losses[part::parts], weights[part::parts], weights, parts) for part in range(parts)
    ]
    expected = float((losses * weights).sum() / weights.sum()) if weights.sum() > 0 else 0.0
    assert float(sum(shares)) / parts == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_step_of_weight_zero_has_loss_and_gradient_zero():
    logits = torch.zeros(2, 2, requires_grad=True)
    losses = CrossEntropy()(logits, torch.tensor([0, 1]))
    loss = weighted_mean(losses, torch.zeros(2), torch.zeros(2), 1)
    loss.backward()
    assert float(loss) == 0
    assert logits.grad.eq(0).all()


def test_a_loss_that_is_no_number_stays_one():
    assert math.isnan(weighted_mean(torch.tensor([math.nan]), torch.ones(1), torch.ones(1), 1))


def test_a_reduced_loss_is_refused():
    with pytest.raises(ValueError, match=r"one value a sequence, .* got losses of shape \(\)"):
        weighted_mean(torch.tensor(1.0), torch.ones(4), torch.ones(4), 1)
    with pytest.raises(ValueError, match="micro_batches takes 1 or more, got 0"):
        weighted_mean(torch.ones(4), torch.ones(4), torch.ones(4), 0)

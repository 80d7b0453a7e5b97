"""The lean cross entropy is the plain one, in loss and in gradient, however it is cut."""

import pytest
import torch
from torch.nn import functional

import bertlab.losses.linear_cross_entropy as module
from bertlab.losses.linear_cross_entropy import draw, linear_cross_entropy, linear_predictions


@pytest.fixture(autouse=True, params=[1, 64])
def _multiple(request, monkeypatch):
    """As on a CPU, and as on an accelerator, which has classes put behind the 50."""
    monkeypatch.setattr(module, "MULTIPLE_CPU", request.param)


def inputs(rows: int, dtype: torch.dtype = torch.float32, scale: float = 1.0):
    torch.manual_seed(3)
    hidden, weight, bias = torch.randn(rows, 8), torch.randn(50, 8) * scale, torch.randn(50)
    tensors = [t.to(dtype).requires_grad_() for t in (hidden, weight, bias)]
    return *tensors, torch.randint(50, (rows,))


def gradients(function, rows: int, **options):
    hidden, weight, bias, labels = inputs(rows, **options)
    loss = function(hidden, weight, bias, labels)
    (3.0 * loss).backward()
    return [loss.detach(), hidden.grad, weight.grad, bias.grad]


def plain(hidden, weight, bias, labels):
    return functional.cross_entropy(functional.linear(hidden, weight, bias), labels, reduction="sum")


def lean(hidden, weight, bias, labels):
    return linear_cross_entropy(hidden, weight, bias, labels)[0]


@pytest.mark.parametrize("rows", [0, 1, 7, 64])
@pytest.mark.parametrize("per_chunk", [1, 5, 1000])
def test_loss_and_gradients_are_those_of_the_plain_one(rows, per_chunk, monkeypatch):
    monkeypatch.setattr(module, "BUFFER_CPU", 50 * per_chunk)
    for mine, theirs in zip(gradients(lean, rows), gradients(plain, rows), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_gradient_is_that_of_finite_differences(monkeypatch):
    monkeypatch.setattr(module, "BUFFER_CPU", 150)
    hidden, weight, bias, labels = inputs(8, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *p: lean(*p, labels), (hidden, weight, bias))


def test_sure_and_wrong_is_finite():
    for mine, theirs in zip(gradients(lean, 20, scale=200.0), gradients(plain, 20, scale=200.0), strict=True):
        assert mine.isfinite().all()
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-3)


def test_frozen_parts_get_no_gradient():
    hidden, weight, bias, labels = inputs(9)
    lean(hidden, weight.detach(), bias.detach(), labels).backward()
    expected = gradients(plain, 9)[1] / 3
    torch.testing.assert_close(hidden.grad, expected, rtol=1e-5, atol=1e-6)
    assert weight.grad is None
    assert bias.grad is None


@pytest.mark.parametrize("rows", [64, 70, 200])
def test_autocast_computes_products_in_bfloat16_and_gradients_in_float32(rows, monkeypatch):
    """Rows are made up to a multiple of 64 then."""
    monkeypatch.setattr(module, "BUFFER_CPU", 50 * 130)

    def under_autocast(function):
        def call(*args):
            with torch.autocast("cpu", torch.bfloat16):
                return function(*args)

        return call

    exact, rounded = gradients(lean, rows), gradients(under_autocast(lean), rows)
    theirs = gradients(under_autocast(plain), rows)
    for a, b, c in zip(exact, rounded, theirs, strict=True):
        assert b.dtype == torch.float32
        # The error of rounding to 8 bits, and no more of it than the plain one has.
        assert 0 < (a - b).norm() < max(0.02 * a.norm(), 2 * (a - c).norm())


def test_predictions_are_those_of_the_logits(monkeypatch):
    monkeypatch.setattr(module, "BUFFER_CPU", 200)
    hidden, weight, bias, labels = inputs(33)
    logits = functional.linear(hidden, weight, bias)
    uniform = torch.rand(33)
    found = linear_predictions(hidden, weight, bias, labels, uniform)
    theirs = functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(found.losses, theirs, rtol=1e-5, atol=1e-5)
    assert torch.equal(found.predicted, logits.argmax(1))
    assert torch.equal(found.drawn, draw(logits.softmax(1), uniform))
    assert torch.equal(linear_cross_entropy(hidden, weight, bias, labels, uniform)[1], found.drawn)
    nothing = linear_predictions(hidden[:0], weight, bias, labels[:0])
    assert [part.shape for part in nothing] == [(0,)] * 3


def test_filler_has_no_part_in_predictions_and_gradients():
    """In bfloat16, where the rows are made up to a multiple."""
    hidden, weight, bias, labels = inputs(70)
    uniform = torch.rand(70)
    with torch.autocast("cpu", torch.bfloat16):
        together = linear_predictions(hidden, weight, bias, labels, uniform)
        apart = [
            linear_predictions(hidden[part], weight, bias, labels[part], uniform[part])
            for part in (slice(0, 64), slice(64, 70))
        ]
        total, drawn = linear_cross_entropy(hidden, weight, bias, labels, uniform)
    for one, others in zip(together, zip(*apart, strict=True), strict=True):
        assert torch.equal(one, torch.cat(others))
    assert torch.equal(drawn, together.drawn)
    torch.testing.assert_close(total, together.losses.sum())
    of_bias = torch.autograd.grad(total, bias)[0]
    torch.testing.assert_close(of_bias.sum(), torch.tensor(0.0), atol=1e-4, rtol=0)  # of each row: 1 - 1


def test_draws_follow_the_distribution():
    share = torch.tensor([0.1, 0.0, 0.6, 0.3, 0.0])
    drawn = draw(share.expand(20000, 5), (torch.arange(20000) + 0.5) / 20000)
    torch.testing.assert_close(drawn.bincount(minlength=5) / 20000, share, atol=1e-3, rtol=0)


def test_shapes_that_do_not_match_are_named():
    hidden, weight, bias, labels = inputs(4)
    with pytest.raises(ValueError, match=r"got \(4, 8\), \(50, 8\), \(50,\), \(3,\)"):
        linear_cross_entropy(hidden, weight, bias, labels[:3])


@pytest.mark.gpu
@pytest.mark.parametrize("function", [lean, linear_predictions])
def test_on_cuda_it_is_what_it_is_on_the_cpu(function):
    hidden, weight, bias, labels = inputs(30)
    uniform = torch.linspace(0, 1, 30)
    arguments = (
        (hidden, weight, bias, labels) if function is lean else (hidden, weight, bias, labels, uniform)
    )
    expected, found = function(*arguments), function(*(value.cuda() for value in arguments))
    for one, other in zip(
        *([value] if isinstance(value, torch.Tensor) else value for value in (expected, found)), strict=True
    ):
        torch.testing.assert_close(other.cpu(), one, rtol=1e-4, atol=1e-4)

"""Packed attention is attention within each sequence, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bertlab.encoders.dropout import draw_mask, kept_share
from bertlab.encoders.packed_attention import first_token_attention, packed_attention
from bertlab.encoders.packing import Packing, pack

LENGTHS = [7, 6, 6, 3, 1]
HEADS, SIZE = 2, 4


def packing(max_waste: float | None) -> Packing:
    return pack(torch.tensor(LENGTHS), torch.device("cpu"), max_waste)


def tokens(dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(sum(LENGTHS), 3, HEADS, SIZE, dtype=dtype, generator=generator)


def reference(qkv: Tensor, scaling: float, window: int | None = None) -> Tensor:
    """One sequence after the other, by the formula."""
    outputs = []
    for own in qkv.split(LENGTHS):
        query, key, value = own.permute(1, 2, 0, 3)
        scores = query @ key.transpose(1, 2) * scaling
        if window is not None:
            places = torch.arange(len(own))
            scores = scores.masked_fill((places - places[:, None]).abs() >= window, float("-inf"))
        outputs.append((scores.softmax(2) @ value).transpose(0, 1))
    return torch.cat(outputs)


# A dropout of 1e-9 drops nothing but takes the path with dropout. Sequences longer than `plain` go to torch's own
# attention: all of them, some, or none.
@pytest.mark.parametrize("plain", [0, 5, 128])
@pytest.mark.parametrize("p", [0.0, 1e-9])
@pytest.mark.parametrize("window", [None, 1, 3, 20])
@pytest.mark.parametrize("max_waste", [None, 0.0, 0.2, 0.75])
def test_equals_attention_of_each_sequence_and_its_gradient(
    monkeypatch: pytest.MonkeyPatch, max_waste: float | None, window: int | None, p: float, plain: int
):
    monkeypatch.setattr("bertlab.encoders.packed_attention.PLAIN_LONGEST", plain)
    monkeypatch.setattr("bertlab.encoders.packed_attention.PLAIN_LONGEST_TRAINED", plain)
    qkv, same = tokens().requires_grad_(), tokens().requires_grad_()
    ours = packed_attention(qkv, packing(max_waste), 0.3, p, window)
    theirs = reference(same, 0.3, window)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(theirs)
    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()
    torch.testing.assert_close(qkv.grad, same.grad)
    torch.testing.assert_close(packed_attention(qkv.detach(), packing(max_waste), 0.3, p, window), theirs)


@pytest.mark.parametrize("max_waste", [None, 0.2])
@pytest.mark.parametrize("window", [None, 3])
def test_gradient_with_dropout_is_that_of_the_masked_function(window: int | None, max_waste: float | None):
    def attend(qkv: Tensor) -> Tensor:
        torch.manual_seed(3)  # the same mask in each call
        return packed_attention(qkv, packing(max_waste), 0.3, 0.4, window)

    assert torch.autograd.gradcheck(attend, (tokens().requires_grad_(),))


def test_dropout_acts_on_the_probabilities():
    """With values of one, the output of a token is the sum of its kept and scaled probabilities."""
    qkv = tokens()
    qkv[:, 0] = 0  # equal scores
    qkv[:, 2] = 1
    layout = packing(0.0)
    torch.manual_seed(5)
    output = packed_attention(qkv, layout, 1.0, 0.5)[..., 0]
    torch.manual_seed(5)
    sizes = [group.bins * HEADS * group.width**2 for group in layout.layout.groups]
    masks = draw_mask((sum(sizes),), 0.5).split(sizes)
    for group, mask in zip(layout.layout.groups, masks, strict=True):
        kept = (mask != 0).view(group.bins, HEADS, group.width, group.width).double()
        expected = kept.mean(3).div(kept_share(0.5)).transpose(1, 2).flatten(0, 1)
        torch.testing.assert_close(output[group.places], expected)


@pytest.mark.parametrize("max_waste", [None, 0.2])
def test_bfloat16_stays_near_float64(max_waste: float | None):
    exact = tokens().requires_grad_()
    rough = tokens(torch.float64).bfloat16().requires_grad_()
    reference(exact, 0.3).sum().backward()
    output = packed_attention(rough, packing(max_waste), 0.3, 1e-9)
    output.sum().backward()
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.double(), reference(tokens(), 0.3), atol=0.03, rtol=0.03)
    torch.testing.assert_close(rough.grad.double(), exact.grad, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("max_waste", [None, 0.2])
@pytest.mark.parametrize("plain", [0, 5, 128])
def test_filler_behind_the_tokens_has_no_effect(
    monkeypatch: pytest.MonkeyPatch, plain: int, max_waste: float | None
):
    monkeypatch.setattr("bertlab.encoders.packed_attention.PLAIN_LONGEST", plain)
    monkeypatch.setattr("bertlab.encoders.packed_attention.PLAIN_LONGEST_TRAINED", plain)
    layout = pack(torch.tensor(LENGTHS), torch.device("cpu"), max_waste, multiple=16)
    assert layout.filler == 32 - 23
    filled = torch.cat([tokens(), torch.full((layout.filler, 3, HEADS, SIZE), torch.nan).double()])
    filled, same = filled.requires_grad_(), tokens().requires_grad_()
    ours, theirs = packed_attention(filled, layout, 0.3), packed_attention(same, packing(max_waste), 0.3)
    torch.testing.assert_close(ours, torch.cat([theirs, theirs.new_zeros(layout.filler, HEADS, SIZE)]))
    weights = torch.randn_like(ours)
    (ours * weights).sum().backward()
    (theirs * weights[:23]).sum().backward()
    assert torch.equal(filled.grad[:23], same.grad)
    assert not filled.grad[23:].any()
    queries, keys = filled[layout.starts, 0], filled[:, 1:]
    few = first_token_attention(queries, keys, layout, 0.3, 0.0)
    torch.testing.assert_close(few, theirs[layout.starts], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("max_waste", [None, 0.0, 0.5])
def test_first_tokens_see_what_they_see_among_all(max_waste: float | None):
    qkv = tokens()
    layout = packing(max_waste)
    few = first_token_attention(qkv[layout.starts, 0], qkv[:, 1:], layout, 0.3, 0.0)
    torch.testing.assert_close(few, reference(qkv, 0.3)[layout.starts], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("max_waste", [None, 0.75])
def test_a_sequence_does_not_see_its_neighbours(max_waste: float | None):
    before, after = tokens(), tokens()
    after[: LENGTHS[0]] += 100  # only the first sequence
    one, other = (packed_attention(qkv, packing(max_waste), 0.3) for qkv in (before, after))
    assert torch.equal(one[LENGTHS[0] :], other[LENGTHS[0] :])
    assert not torch.equal(one, other)

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bertlab.encoders import flash_attention
from bertlab.encoders.packed_attention import packed_attention
from bertlab.encoders.packing import Packing, pack

LENGTHS, HEADS, SIZE = [3, 70, 1, 64, 129], 2, 16


def on_gpu(dtype: torch.dtype = torch.bfloat16) -> tuple[Tensor, Packing]:
    torch.manual_seed(0)
    qkv = torch.randn(sum(LENGTHS), 3, HEADS, SIZE, device="cuda", dtype=dtype)
    return qkv, pack(torch.tensor(LENGTHS), qkv.device, max_waste=0.75)


def test_torch_has_the_kernels_under_these_arguments():
    """They have no public name that takes dropout and windows."""
    forward = torch.ops.aten._flash_attention_forward.default._schema
    names = [argument.name for argument in forward.arguments]
    assert names[:10] == [
        *("query", "key", "value", "cum_seq_q", "cum_seq_k", "max_q", "max_k"),
        *("dropout_p", "is_causal", "return_debug_mask"),
    ]
    assert {"scale", "window_size_left", "window_size_right"} < set(names)
    assert all(argument.has_default_value() for argument in forward.arguments[10:])


def test_what_the_kernels_do_not_take():
    assert not flash_attention.takes(torch.device("cpu"), torch.bfloat16, SIZE)


@pytest.mark.gpu
def test_what_the_kernels_take():
    gpu = torch.device("cuda", 0)
    assert flash_attention.takes(gpu, torch.bfloat16, 64)
    assert flash_attention.takes(gpu, torch.float16, 256)
    assert not flash_attention.takes(gpu, torch.float32, 64)
    assert not flash_attention.takes(gpu, torch.bfloat16, 12)
    assert not flash_attention.takes(gpu, torch.bfloat16, 264)


@pytest.mark.gpu
@pytest.mark.parametrize("window", [None, 1, 5, 64, 500])
@pytest.mark.parametrize("filler", [0, 7])
def test_it_is_what_bins_give(window: int | None, filler: int, monkeypatch: pytest.MonkeyPatch):
    qkv, packing = on_gpu()
    qkv = torch.nn.functional.pad(qkv, (0, 0, 0, 0, 0, 0, 0, filler)).requires_grad_()
    weights = torch.randn(len(qkv), HEADS, SIZE, device="cuda")
    found = packed_attention(qkv, packing, 0.3, window=window)
    (gradient,) = torch.autograd.grad((found.float() * weights).sum(), qkv)
    monkeypatch.setattr(flash_attention, "takes", lambda *_: False)
    exact = qkv.detach().float().requires_grad_()
    expected = packed_attention(exact, packing, 0.3, window=window)
    (of_bins,) = torch.autograd.grad((expected * weights).sum(), exact)
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0.02)
    torch.testing.assert_close(gradient.float(), of_bins, atol=0.05, rtol=0.05)


@pytest.mark.gpu
def test_dropout_acts_on_the_probabilities():
    """With values of one, the output of a token is the sum of its kept and scaled probabilities."""
    qkv, packing = on_gpu()
    qkv[:, 0], qkv[:, 2] = 0, 1
    torch.manual_seed(5)
    output = packed_attention(qkv, packing, 1.0, 0.5)
    assert (output == output[..., :1]).all()
    of_longest = output[-LENGTHS[-1] :, :, 0].float().cpu()
    assert of_longest.mean() == pytest.approx(1, abs=0.02)
    assert of_longest.std() == pytest.approx(LENGTHS[-1] ** -0.5, rel=0.2)
    torch.manual_seed(5)
    assert torch.equal(packed_attention(qkv, packing, 1.0, 0.5), output)
    torch.manual_seed(6)
    assert not torch.equal(packed_attention(qkv, packing, 1.0, 0.5), output)

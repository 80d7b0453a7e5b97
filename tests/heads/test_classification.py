"""The classification head takes the vector it is told to, and begins as BERT's does."""

from __future__ import annotations

import pytest
import torch

from bertlab.heads.classification import ClassificationHead
from bertlab.interfaces import EncoderOutput

LENGTHS = torch.tensor([4, 2, 1])


def encoded(pooled: bool = True) -> EncoderOutput:
    torch.manual_seed(0)
    hidden = torch.randn(7, 8)
    return EncoderOutput(hidden, hidden[torch.tensor([0, 4, 6])], torch.randn(3, 8) if pooled else None)


def test_each_pool_takes_its_vector():
    given = encoded()
    means = torch.stack([part.mean(0) for part in given.hidden.split(LENGTHS.tolist())])
    for pool, vector in (("pooled", given.pooled), ("first", given.first), ("mean", means)):
        head = ClassificationHead(8, 3, pool=pool).eval()
        torch.testing.assert_close(head(given, LENGTHS), head.output(vector))


def test_without_a_pooler_the_first_token_stands_in():
    head, given = ClassificationHead(8, 3).eval(), encoded(pooled=False)
    torch.testing.assert_close(head(given, LENGTHS), head.output(given.first))


def test_gradient_of_the_mean_is_shared_equally():
    hidden = torch.randn(7, 8, requires_grad=True)
    head = ClassificationHead(8, 1, dropout=0.0, pool="mean")
    head(EncoderOutput(hidden, hidden[:3], None), LENGTHS).sum().backward()
    shares = 1 / LENGTHS.repeat_interleave(LENGTHS)
    torch.testing.assert_close(hidden.grad, shares[:, None] * head.output.weight)


def test_mean_of_bfloat16_is_summed_in_float32():
    """257 ones after 256 of them: a running sum in bfloat16 would stop at 256."""
    head = ClassificationHead(1, 1, pool="mean").eval()
    ones = torch.ones(1000, 1, dtype=torch.bfloat16)
    with torch.no_grad():
        head.output.weight.fill_(1.0)
        assert head(EncoderOutput(ones, ones[:1], None), torch.tensor([1000])).item() == 1.0


def test_begins_as_bert_does():
    torch.manual_seed(0)
    head = ClassificationHead(1000, 100)
    assert head.output.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert head.output.weight.mean().item() == pytest.approx(0.0, abs=3e-4)
    assert not head.output.bias.any()


def test_dropout_is_on_in_training_alone():
    head, given = ClassificationHead(8, 3, dropout=0.5), encoded()
    assert not torch.equal(head(given, LENGTHS), head(given, LENGTHS))
    head.eval()
    assert torch.equal(head(given, LENGTHS), head(given, LENGTHS))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pool": "max"}, "pool takes one of .*'pooled', 'first', 'mean'.*got 'max'"),
        ({"dropout": 1.0}, r"dropout takes a share in \[0, 1\), got 1.0"),
        ({"outputs": 0}, "outputs takes 1 or more, got 0"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        ClassificationHead(**({"hidden_size": 8, "outputs": 2} | arguments))

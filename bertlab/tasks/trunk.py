"""A classification head on an encoder that is run whole, or in two parts."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from bertlab.encoders.encoder import Encoder
from bertlab.heads.classification import ClassificationHead
from bertlab.interfaces import TextBatch, Trunk


def logits(encoder: Any, head: ClassificationHead, batch: TextBatch, trunk: Trunk | None) -> Tensor:
    """(S, C) what the head says of each sequence.

    Args:
        encoder: of `bertlab.encoders`.
        head: says how it takes the vector of a sequence.
        batch: of texts.
        trunk: what `run_trunk` gave for this batch; only the blocks above it are run. None: all are.
    """
    if trunk is None:
        return head(encoder(batch, first_only=head.pool != "mean"), batch.lengths)
    above = _above(encoder, trunk.blocks)
    if not above:
        return head.answers(trunk.values)
    if above == ["pooler"]:
        return head.answers(encoder.pooled(trunk.values))
    return head(encoder(batch, first_only=head.pool != "mean", trunk=trunk), batch.lengths)


def run_trunk(encoder: Any, head: ClassificationHead, batch: TextBatch, blocks: int) -> Tensor:
    """What the lowest blocks make of a batch, in the units of `trunk_unit`.

    All blocks make the vector that the head sees, all but the pooler the hidden state of the first token, others
    the hidden state of each token.
    """
    if trunk_unit(encoder, blocks) == "token":
        return encoder.lower(batch, blocks)
    if _above(encoder, blocks):  # the pooler, which may have dropout of its adapters: it is not of the trunk
        return encoder(batch, first_only=head.pool != "mean", pool=False).first
    return head.vector(encoder(batch, first_only=head.pool != "mean"), batch.lengths)


def trunk_unit(encoder: Any, blocks: int) -> Literal["token", "sequence"] | None:
    """For what the lowest blocks give a vector each; None: the encoder cannot be divided above them."""
    above = _above(encoder, blocks)
    if not above:
        return "sequence"
    if not isinstance(encoder, Encoder):
        return None
    if above == ["pooler"]:
        return "sequence"
    return "token" if encoder.divisible else None


def _above(encoder: Any, blocks: int) -> list[str]:
    return [block.name for block in encoder.blocks()[blocks:]]

"""What tells that a frozen trunk, or a row, is still the one whose values were kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import crc32c
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from bertlab.interfaces import Block, HasEncoderBlocks, TextBatch


class TrunkWatch:
    """Which of the lowest blocks are frozen, and a digest of their weights, cheap enough to ask before every step.

    The digest is computed again only where torch has counted a change of a weight. Changes through `.data` are not
    counted; `look_closely` finds them.

    Args:
        blocks: from the embeddings up.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = [(block, list(block.parameters())) for block in blocks]
        self._seen: tuple[int, ...] | None = None
        self._digest = 0

    def frozen(self) -> int:
        """How many blocks, from the bottom up, are frozen and in evaluation mode before the first that is not."""
        for number, (block, parameters) in enumerate(self._blocks):
            active = any(module.training for module in block.modules)
            if active or any(parameter.requires_grad for parameter in parameters):
                return number
        return len(self._blocks)

    def names(self, blocks: int) -> list[str]:
        """Of the lowest blocks."""
        return [block.name for block, _ in self._blocks[:blocks]]

    def weights(self, blocks: int) -> list[nn.Parameter]:
        """Of the lowest blocks."""
        return [parameter for _, parameters in self._blocks[:blocks] for parameter in parameters]

    def look_closely(self) -> None:
        """Compute the digest the next time, whatever torch has counted."""
        self._seen = None

    def digest(self, blocks: int) -> int:
        """CRC-32C of the weights of the lowest blocks as they are now."""
        weights = self.weights(blocks)
        seen = (blocks, *(weight._version for weight in weights))  # pyright: ignore[reportPrivateUsage]
        if seen != self._seen:
            self._seen, self._digest = seen, weights_digest(weights)
        return self._digest


def watch_of(module: LightningModule) -> TrunkWatch:
    """Of the encoder of a task."""
    assert isinstance(module, HasEncoderBlocks)
    return TrunkWatch(module.encoder_blocks())


def weights_digest(parameters: Iterable[nn.Parameter]) -> int:
    """CRC-32C of weights.

    >>> weights_digest([nn.Parameter(torch.zeros(2))]) == weights_digest([nn.Parameter(torch.zeros(2))])
    True
    """
    value = 0
    for parameter in parameters:
        content = parameter.detach().cpu().contiguous().view(-1).view(torch.uint8)
        value = crc32c.crc32c(content.numpy().data, value)
    return value


def row_fingerprints(batch: TextBatch) -> Tensor:
    """A number for the tokens and segments of each sequence, wherever it stands in a batch.

    The sum over its places of (2⁸ · id + segment + 1) times an odd factor of the place, modulo 2⁶⁴: rows that differ
    in one token always differ in it, others all but surely.

    Returns:
        (S,) int64, on the device of the tokens.
    """
    lengths, device = batch.lengths, batch.input_ids.device
    rows = torch.arange(len(lengths)).repeat_interleave(lengths)
    places = torch.arange(len(rows)) - (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
    terms = (batch.input_ids * 256 + batch.token_type_ids + 1) * _factors(places).to(device)
    return torch.zeros(len(lengths), dtype=torch.int64, device=device).index_add_(0, rows.to(device), terms)


def _factors(places: Tensor) -> Tensor:
    """Odd 64-bit numbers that look random, as SplitMix64 makes them (Steele et al. 2014), but for its last shift."""
    mixed = (places + 1) * (0x9E3779B97F4A7C15 - 2**64)
    mixed = (mixed ^ (mixed >> 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    mixed = (mixed ^ (mixed >> 27)) * (0x94D049BB133111EB - 2**64)
    return mixed | 1

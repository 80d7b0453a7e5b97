"""ReplacedTokens: a small generator fills masked positions, the encoder tells which tokens are not the text's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from bertlab.encoders.encoder import Encoder
from bertlab.encoders.generator import small_generator
from bertlab.heads.layouts import REPLACED, load_head, masked_lm_head, replaced_token_head
from bertlab.interfaces import PretrainingBatch
from bertlab.losses.linear_cross_entropy import linear_cross_entropy, linear_predictions
from bertlab.losses.step_mean import step_mean
from bertlab.tasks.pretraining_objective import (
    EPSILON,
    PretrainingObjective,
    check_training_batch,
    masked_metrics,
    sums_of_sequences,
)


class ReplacedTokens(PretrainingObjective):
    """Replaced-token detection with a generator that is trained beside the encoder.

    Clark et al. 2020, arXiv:2003.10555, section 2: the generator's masked language loss plus `weight` times the
    binary cross entropy over all tokens; a drawn token that is the text's own counts as original. Deviations: the
    discriminator's loss is the mean over the tokens of a sequence, then over the sequences of the step (the paper's
    over all tokens, the same for sequences of one length); tokens are drawn by numbers that are a function of
    (step, sequence, place), so the same for one batch, many micro-batches and many ranks.

    Args:
        encoder: the discriminator.
        fraction: width of the generator by that of the encoder, in (0, 1].
        weight: λ, of the discriminator's loss.
    """

    columns = (
        "masked_loss", "masked", "masked_right", "replaced_loss", "tokens", "tokens_right", "replaced", "found",
        "found_right",
    )  # fmt: skip

    def __init__(self, encoder: Encoder, fraction: float, weight: float) -> None:
        super().__init__()
        encoder.drop_pooler()
        self.weight = weight
        self.generator = small_generator(encoder, fraction)
        settings = self.generator.config
        self.masked_lm = masked_lm_head(settings, self.generator.hidden_size, self.generator.word_embedding)
        self.replaced = replaced_token_head(encoder.config, encoder.hidden_size)
        load_head(self.replaced, REPLACED, encoder.head_weights())

    def training_loss(self, encoder: Encoder, batch: PretrainingBatch, step: int) -> Tensor:
        """Mean over the masked positions of the step, plus `weight` times the discriminator's."""
        check_training_batch(batch)
        generated = self.generator(batch, positions=batch.masked_positions).hidden
        decode = partial(linear_cross_entropy, labels=batch.masked_labels, uniform=draws(batch, step))
        total, drawn = self.masked_lm(generated, decode)
        loss = step_mean(total, batch.step_masked, batch.micro_batches, EPSILON)
        _, _, losses = self._discriminate(encoder, batch, drawn)
        return loss + self.weight * step_mean(losses.sum(), batch.step_sequences, batch.micro_batches)

    def evaluate(self, encoder: Encoder, batch: PretrainingBatch) -> Tensor:
        """Sums of each sequence."""
        generated = self.generator(batch, positions=batch.masked_positions).hidden
        decode = partial(linear_predictions, labels=batch.masked_labels, uniform=draws(batch, 0))
        told = self.masked_lm(generated, decode)
        right = told.predicted == batch.masked_labels
        masked = (told.losses, torch.ones_like(told.losses), right)
        columns = [sums_of_sequences(value, batch.masked_positions, batch.lengths) for value in masked]
        logits, replaced, losses = self._discriminate(encoder, batch, told.drawn)
        found = logits > 0
        tokens = (torch.ones_like(logits), found == replaced, replaced, found, found & replaced)
        everywhere = torch.arange(len(logits), device=logits.device)
        columns += [losses, *(sums_of_sequences(value, everywhere, batch.lengths) for value in tokens)]
        return torch.stack(columns, dim=1)

    def metrics(self, sums: Mapping[str, Tensor], sequences: int) -> dict[str, Tensor]:
        """`loss`, those of `masked_metrics` for the generator, and those of the discriminator.

        replaced_loss; replaced_accuracy over all tokens; replaced_share of tokens, 1 − the accuracy of saying
        "original" always; replaced_precision and replaced_recall.
        """
        found = masked_metrics(sums)
        replaced = sums["replaced_loss"] / sequences
        return {
            "loss": found["masked_loss"] + self.weight * replaced,
            **found,
            "replaced_loss": replaced,
            "replaced_accuracy": sums["tokens_right"] / sums["tokens"],
            "replaced_share": sums["replaced"] / sums["tokens"],
            "replaced_precision": sums["found_right"] / sums["found"].clamp(min=1),
            "replaced_recall": sums["found_right"] / sums["replaced"].clamp(min=1),
        }

    def _discriminate(
        self, encoder: Encoder, batch: PretrainingBatch, drawn: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N,), which tokens are replaced (N,), and the mean loss of each sequence (S,)."""
        ids = batch.input_ids.index_copy(0, batch.masked_positions, drawn)
        replaced = torch.zeros_like(ids, dtype=torch.bool)
        replaced[batch.masked_positions] = drawn != batch.masked_labels
        logits = self.replaced(encoder(replace(batch, input_ids=ids)).hidden)
        losses = functional.binary_cross_entropy_with_logits(logits, replaced.float(), reduction="none")
        lengths = batch.lengths.to(losses.device)
        return logits, replaced, torch.segment_reduce(losses, "mean", lengths=lengths, axis=0)


def draws(batch: PretrainingBatch, step: int) -> Tensor:
    """One random number for each masked position, a function of (step, index of the sequence, place in it).

    By the finaliser of SplitMix64 (Steele et al. 2014, doi:10.1145/2660193.2660195).

    Returns:
        (M,) float32 in [0, 1), multiples of 2⁻²⁴.
    """
    device = batch.masked_positions.device
    ends = batch.lengths.cumsum(0)
    rows = torch.searchsorted(ends.to(device), batch.masked_positions, right=True)
    places = batch.masked_positions - (ends - batch.lengths).to(device)[rows]
    mixed = torch.full_like(places, step)
    for part in (batch.index.to(device)[rows], places):
        mixed = _mix(mixed) + part
    return _shifted(_mix(mixed), 40).float() / 2**24


def _mix(values: Tensor) -> Tensor:
    """Scramble the 64 bits of integers, whose products wrap around."""
    values = values + _signed(0x9E3779B97F4A7C15)
    values = (values ^ _shifted(values, 30)) * _signed(0xBF58476D1CE4E5B9)
    values = (values ^ _shifted(values, 27)) * _signed(0x94D049BB133111EB)
    return values ^ _shifted(values, 31)


def _shifted(values: Tensor, bits: int) -> Tensor:
    """Shift to the right, zeros coming in."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def _signed(constant: int) -> int:
    return constant - (1 << 64) if constant >> 63 else constant

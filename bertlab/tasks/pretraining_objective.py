"""PretrainingObjective: what an encoder is pretrained to do."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bertlab.encoders.encoder import Encoder
from bertlab.interfaces import PretrainingBatch

#: What google-research/bert adds to the number of masked positions of a step (run_pretraining.py).
EPSILON = 1e-5


class PretrainingObjective(nn.Module):
    """The heads of an objective, with its loss and its metrics."""

    #: names of the columns that `evaluate` gives.
    columns: tuple[str, ...]

    @abstractmethod
    def training_loss(self, encoder: Encoder, batch: PretrainingBatch, step: int) -> Tensor:
        """The share of a micro-batch in the loss of its optimizer step.

        Args:
            encoder: that is trained.
            batch: a micro-batch.
            step: optimizer steps taken before it; what is drawn at random follows it.

        Raises:
            ValueError: the batch lacks what the objective needs.
        """

    @abstractmethod
    def evaluate(self, encoder: Encoder, batch: PretrainingBatch) -> Tensor:
        """(S, number of columns) float32: sums over each sequence, under the names of `columns`."""

    @abstractmethod
    def metrics(self, sums: Mapping[str, Tensor], sequences: int) -> dict[str, Tensor]:
        """Metrics of a split.

        Args:
            sums: float64 sum of each column over all sequences.
            sequences: how many there are.
        """


def masked_metrics(sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of the masked positions of a split.

    Returns:
        masked_loss: mean cross entropy, in nats; masked_accuracy; pseudo_perplexity: exp of the loss (of Salazar et
        al. 2020, arXiv:1910.14659, section 2.3, with the positions that are masked in the place of all).

    Raises:
        ValueError: nothing is masked.
    """
    masked = sums["masked"]
    if masked == 0:
        raise ValueError("an evaluation takes at least one masked position, got none")
    loss = sums["masked_loss"] / masked
    return {
        "masked_loss": loss,
        "masked_accuracy": sums["masked_right"] / masked,
        "pseudo_perplexity": loss.exp(),
    }


def sums_of_sequences(values: Tensor, places: Tensor, lengths: Tensor) -> Tensor:
    """Sum values that stand at places of a packed batch over each sequence.

    Args:
        values: (M,).
        places: (M,) int64 in the packed batch.
        lengths: (S,) tokens of each sequence.

    Returns:
        (S,) float32.

    >>> sums_of_sequences(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 2, 3]), torch.tensor([3, 1, 2]))
    tensor([3., 4., 0.])
    """
    ends = lengths.cumsum(0).to(places.device)
    rows = torch.searchsorted(ends, places, right=True)
    return torch.zeros(len(lengths), device=values.device).index_add_(0, rows, values.float())


def check_training_batch(batch: PretrainingBatch) -> None:
    """Refuse a batch that does not know its optimizer step.

    Raises:
        ValueError: it does not.
    """
    if batch.step_masked < len(batch.masked_positions) or batch.step_sequences < batch.size:
        raise ValueError(
            "a training batch takes step_masked and step_sequences (those of its whole optimizer step), got "
            f"{batch.step_masked} and {batch.step_sequences} for {len(batch.masked_positions)} masked positions in "
            f"{batch.size} sequences"
        )

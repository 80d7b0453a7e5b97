"""MaskedLanguage: masked word pieces, with or without a sentence task."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from bertlab.encoders.encoder import Encoder
from bertlab.heads.layouts import LAYOUTS, SENTENCE, Layout, load_head, masked_lm_head, next_sentence_head
from bertlab.interfaces import EncoderOutput, PretrainingBatch
from bertlab.losses.linear_cross_entropy import linear_cross_entropy, linear_predictions
from bertlab.losses.step_mean import step_mean
from bertlab.tasks.pretraining_objective import (
    EPSILON,
    PretrainingObjective,
    check_training_batch,
    masked_metrics,
    sums_of_sequences,
)


class MaskedLanguage(PretrainingObjective):
    """Masked language model, and next sentence prediction or sentence order if asked for.

    Devlin et al. 2019, arXiv:1810.04805, appendix A.2. The loss is that of google-research/bert: the mean over the
    masked positions of the optimizer step, plus the mean over its sequences.

    Args:
        encoder: whose word embeddings the decoder shares. Heads of its checkpoint are taken, those it lacks are
            made; a pooler that no sentence task uses is taken away.
        sentence: whether there is a sentence task.
    """

    def __init__(self, encoder: Encoder, sentence: bool) -> None:
        super().__init__()
        config = encoder.config
        weights = encoder.head_weights()
        self.masked_lm = masked_lm_head(config, encoder.hidden_size, encoder.word_embedding)
        load_head(self.masked_lm, LAYOUTS.get(config.model_type, Layout()).names, weights)
        self.sentence = None
        if sentence:
            self.sentence = next_sentence_head(config, encoder.hidden_size, pooler=not encoder.has_pooler)
            load_head(self.sentence, SENTENCE, weights)
        else:
            encoder.drop_pooler()
        tasks = ("sentence_loss", "sentence_right") if sentence else ()
        self.columns = ("masked_loss", "masked", "masked_right", *tasks)

    def training_loss(self, encoder: Encoder, batch: PretrainingBatch, step: int) -> Tensor:
        """Mean over the masked positions of the step, plus the mean over its sequences."""
        check_training_batch(batch)
        encoded = encoder(batch, positions=batch.masked_positions)
        decode = partial(linear_cross_entropy, labels=batch.masked_labels)
        total, _ = self.masked_lm(encoded.hidden, decode)
        loss = step_mean(total, batch.step_masked, batch.micro_batches, EPSILON)
        if self.sentence is None:
            return loss
        total = functional.cross_entropy(self.sentence(encoded), self._labels(batch), reduction="sum")
        return loss + step_mean(total, batch.step_sequences, batch.micro_batches)

    def evaluate(self, encoder: Encoder, batch: PretrainingBatch) -> Tensor:
        """Sums of each sequence."""
        encoded = encoder(batch, positions=batch.masked_positions)
        found = self.masked_lm(encoded.hidden, partial(linear_predictions, labels=batch.masked_labels))
        right = found.predicted == batch.masked_labels
        masked = (found.losses, torch.ones_like(found.losses), right)
        columns = [sums_of_sequences(value, batch.masked_positions, batch.lengths) for value in masked]
        if self.sentence is not None:
            columns += self._evaluate_sentences(encoded, batch)
        return torch.stack(columns, dim=1)

    def metrics(self, sums: Mapping[str, Tensor], sequences: int) -> dict[str, Tensor]:
        """`loss`, those of `masked_metrics`, and `sentence_loss` and `sentence_accuracy` with a sentence task."""
        found = masked_metrics(sums)
        loss = found["masked_loss"]
        if self.sentence is not None:
            found["sentence_loss"] = sums["sentence_loss"] / sequences
            found["sentence_accuracy"] = sums["sentence_right"] / sequences
            loss = loss + found["sentence_loss"]
        return {"loss": loss, **found}

    def _evaluate_sentences(self, encoded: EncoderOutput, batch: PretrainingBatch) -> list[Tensor]:
        assert self.sentence is not None
        logits, labels = self.sentence(encoded), self._labels(batch)
        losses = functional.cross_entropy(logits, labels, reduction="none")
        return [losses, (logits.argmax(1) == labels).float()]

    @staticmethod
    def _labels(batch: PretrainingBatch) -> Tensor:
        if batch.sentence_labels is None:
            raise ValueError(
                "model.init_args.objective has a sentence task, and the data has no sentence labels: give the data "
                "a sentence task too, or take the objective mlm"
            )
        return batch.sentence_labels

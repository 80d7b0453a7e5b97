"""Pretraining: an encoder learns from running text."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import AdamW

from bertlab.encoders.encoder import Encoder
from bertlab.interfaces import PretrainingBatch
from bertlab.schedules.linear import Linear
from bertlab.schedules.schedule import Schedule
from bertlab.tasks.evaluation import Evaluation
from bertlab.tasks.masked_language import MaskedLanguage
from bertlab.tasks.pretraining_data import check_sentence_task, tokens_and_words
from bertlab.tasks.pretraining_objective import PretrainingObjective
from bertlab.tasks.replaced_tokens import ReplacedTokens
from bertlab.tasks.text_task import TextTask

Objective = Literal["mlm_nsp", "mlm", "mlm_sop", "replaced_tokens"]


class Pretraining(TextTask):
    """An encoder that learns from running text: masked pieces, sentences, or replaced tokens.

    Devlin et al. 2019, arXiv:1810.04805; for `mlm_sop` Lan et al. 2020, arXiv:1909.11942; for `replaced_tokens`
    Clark et al. 2020, arXiv:2003.10555. Logits are made for masked positions only, and no padding exists.

    A pretraining head that the encoder's checkpoint holds is taken with it (continued pretraining); one that is
    missing is made. The decoder shares its weights with the word embeddings, which so are part of the block
    "embeddings" and of the block "head": they are trained while either is.

    Logged: `train/loss` each optimizer step, that of the whole step over all micro-batches and ranks; after each
    validation and test under `val/` and `test/`: `loss`, `masked_loss`, `masked_accuracy`, `pseudo_perplexity`, with
    a sentence task `sentence_loss` and `sentence_accuracy`, with replaced tokens `replaced_…`. Where the data says
    how many words its text has, `word_perplexity`: exp(masked_loss · tokens / words), which compares vocabularies if
    validation masks whole words (`data.init_args.validation_masking: whole_word`). Where it masks pieces one by one, a
    piece is nearly given by the others of its word, and the finer vocabulary seems the better one (Kauf & Ivanova 2023,
    arXiv:2305.10588). Unknown pieces are easily guessed: `summary.json` of a store says how many it has.

    Args:
        encoder: of `bertlab.encoders`, such as `bertlab.encoders.from_config.EncoderFromConfig` (from scratch) or
            `bertlab.encoders.pretrained.PretrainedEncoder` (continued).
        objective: "mlm_nsp": masked pieces and next sentence prediction; "mlm": masked pieces alone; "mlm_sop":
            masked pieces and sentence order prediction; "replaced_tokens": ELECTRA's.
        generator_fraction: of replaced_tokens: the generator's width by the encoder's, in (0, 1].
        discriminator_weight: of replaced_tokens: λ, 0 or more.
        optimizer: takes the parameter groups, one for each block × decayed or not.
        schedule: of the learning rate over the whole training; or any scheduler of torch.
        weight_decay: of matrices; biases and normalisations have none. None: the optimizer's own.
        layer_decay: factor of the rate from each block to the one below, in (0, 1].

    Raises:
        ValueError: an argument is out of range, or the encoder is not of `bertlab.encoders`.
    """

    name = "Pretraining"
    problem_key = "objective"
    needs_training = False  # the checkpoint of the encoder may hold the head

    def __init__(
        self,
        encoder: nn.Module,
        objective: Objective = "mlm_nsp",
        generator_fraction: float = 0.25,
        discriminator_weight: float = 50.0,
        optimizer: OptimizerCallable = lambda params: AdamW(params, lr=1e-4, fused=True),
        schedule: Schedule | LRSchedulerCallable = Linear(warmup_fraction=0.01),  # noqa: B008  (it is frozen)
        weight_decay: float | None = None,
        layer_decay: float = 1.0,
    ) -> None:
        super().__init__(encoder, objective, optimizer, schedule, weight_decay, layer_decay, None)
        if not isinstance(encoder, Encoder):
            raise ValueError(
                f"model.init_args.encoder takes a class of bertlab.encoders, got {type(encoder).__name__}"
            )
        if objective not in get_args(Objective):
            raise ValueError(
                f"model.init_args.objective takes one of {', '.join(get_args(Objective))}, got {objective!r}"
            )
        if not discriminator_weight >= 0:
            raise ValueError(
                f"model.init_args.discriminator_weight takes 0 or more, got {discriminator_weight}"
            )
        if not 0 < generator_fraction <= 1:
            raise ValueError(
                f"model.init_args.generator_fraction takes a number in (0, 1], got {generator_fraction}"
            )
        self.objective: Objective = objective
        self.generator_fraction, self.discriminator_weight = generator_fraction, discriminator_weight
        self._evaluation = Evaluation()

    @property
    def needs_labels(self) -> bool:
        """Whether the head depends on labels: it does not."""
        return False

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """The metric that the best checkpoint is chosen by, and whether less or more of it is better."""
        return "val/loss", "min"

    def check_data(self, datamodule: Any) -> None:
        """Refuse data that does not go with the task.

        Raises:
            ValueError: it has another sentence task, or more word pieces than the encoder.
        """
        check_sentence_task(datamodule, self.objective)
        super().check_data(datamodule)

    def build_head(self) -> PretrainingObjective:
        """The heads of the objective."""
        if self.objective == "replaced_tokens":
            return ReplacedTokens(self.encoder, self.generator_fraction, self.discriminator_weight)
        return MaskedLanguage(self.encoder, sentence=self.objective != "mlm")

    def head_modules(self) -> tuple[nn.Module, ...]:
        """The heads, and the generator."""
        return tuple(self.heads.children())

    @property
    def heads(self) -> PretrainingObjective:
        """The heads.

        Raises:
            RuntimeError: they are not built yet.
        """
        self._check_built()
        assert isinstance(self.head, PretrainingObjective)
        return self.head

    def training_loss(self, batch: PretrainingBatch) -> Tensor:
        """The share of a micro-batch in the loss of its optimizer step."""
        return self.heads.training_loss(self.encoder, batch, self.global_step)

    def on_validation_epoch_start(self) -> None:
        """Begin a pass."""
        self._evaluation.clear()

    def on_test_epoch_start(self) -> None:
        """Begin a pass."""
        self._evaluation.clear()

    def validation_step(self, batch: PretrainingBatch, batch_idx: int) -> None:
        """Keep the sums of each sequence."""
        self._evaluate(batch)

    def test_step(self, batch: PretrainingBatch, batch_idx: int) -> None:
        """Keep the sums of each sequence."""
        self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the pass under `val/`."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the pass under `test/`."""
        self._log_metrics("test")

    def validation_metrics(self) -> Collection[str]:
        """The keys that a validation logs: those of the metrics of a sequence that is made up."""
        one = torch.ones((), dtype=torch.float64)
        return [f"val/{name}" for name in self._metrics("val", dict.fromkeys(self.heads.columns, one), 1)]

    def _evaluate(self, batch: PretrainingBatch) -> None:
        sums = self.heads.evaluate(self.encoder, batch)
        # Kept a sequence at a time, as the evaluations of other tasks: exact for any number of ranks.
        nothing = sums.new_zeros(len(sums))
        self._evaluation.add(batch.index, sums, nothing, nothing)

    def _log_metrics(self, split: str) -> None:
        several = self.trainer.world_size > 1
        rows = self._evaluation.gather(several).outputs.cpu().double()
        self._evaluation.clear()
        sums = dict(zip(self.heads.columns, rows.sum(0), strict=True))
        metrics = self._metrics(split, sums, len(rows))
        values = {f"{split}/{name}": value.float().to(self.device) for name, value in metrics.items()}
        self.log_dict(values, prog_bar=False, sync_dist=several)

    def _metrics(self, split: str, sums: Mapping[str, Tensor], sequences: int) -> dict[str, Tensor]:
        """Those of the objective, and the perplexity of a word where words can be counted."""
        metrics = self.heads.metrics(sums, sequences)
        counts = tokens_and_words(getattr(self.trainer, "datamodule", None), split)
        if counts is not None:
            metrics["word_perplexity"] = word_perplexity(metrics["masked_loss"], *counts)
        return metrics


def word_perplexity(loss: Tensor, tokens: int, words: int) -> Tensor:
    """Perplexity per word of a text that is cut into tokens: exp(loss · tokens / words).

    A masked language model gives no probability of a text. The mean over masked positions stands here for all of
    its tokens, as in a pseudo-likelihood (Salazar et al. 2020, arXiv:1910.14659, eq. 2), and the nats of the whole
    text are shared out over its words, of which there are equally many for any vocabulary. For what the masks have to
    do with it see `Pretraining`.

    Args:
        loss: mean cross entropy of a token, in nats.
        tokens: of the text.
        words: of the text.

    >>> word_perplexity(Tensor([2.0]).log(), tokens=6, words=2)
    tensor([8.])
    """
    return (loss * tokens / words).exp()

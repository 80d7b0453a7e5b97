"""TokenClassification: a tag for each word of a sentence."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import AdamW

from bertlab.encoders.encoder import Encoder
from bertlab.heads.tagging import TaggingHead
from bertlab.interfaces import WordBatch
from bertlab.losses.reduction import weighted_mean
from bertlab.schedules.linear import Linear
from bertlab.schedules.schedule import Schedule
from bertlab.tags import fits
from bertlab.tasks.evaluation import Evaluation, Scores
from bertlab.tasks.single_label import SingleLabel
from bertlab.tasks.span_scores import scores_of_words
from bertlab.tasks.text_task import TextTask

WordProblem = Literal["entities", "tags"]


class TokenClassification(TextTask):
    """An encoder and a head that gives each word one of C tags, on the word's first piece.

    Devlin et al. 2019, arXiv:1810.04805, section 5.3. The loss of an optimizer step is the mean over all its words
    that have a label (weighted by the classes' weights, if there are any), over all micro-batches and ranks.

    Logged: `train/loss` each optimizer step; after each validation and test, under `val/` and `test/`, over words the
    loss without class weights and `accuracy`. Entities are scored as by conlleval, so as by seqeval: one is right if
    all its words and its type are: `precision`, `recall` and `f1` of all, `macro_…` their means over types, and
    `precision_<type>` and so on of each. `strict_…` are of all too, as by seqeval's mode "strict": predicted tags that
    break their scheme, such as I-x after O, are no entity. Tags without that meaning have the metrics of
    `bertlab.tasks.single_label`.

    Args:
        encoder: a module of `bertlab.encoders`, such as `bertlab.encoders.pretrained.PretrainedEncoder`.
        problem: "entities": tags say spans of words, as `B-person`; "tags": each stands for itself, as parts of speech
            do (`scheme: none` of the data).
        dropout: of the head, in [0, 1).
        loss: a module of `bertlab.losses` that gives one value a word; None: CrossEntropy.
        optimizer: takes the parameter groups, one for each block × decayed or not.
        schedule: of the learning rate over the whole training; or any scheduler of torch, stepped after each
            optimizer step (`lightning.pytorch.cli.ReduceLROnPlateau`: after each epoch).
        weight_decay: of matrices; biases and normalisations have none. None: the optimizer's own.
        layer_decay: factor of the rate from each block to the one below, in (0, 1].
        label_names: of the C tags in the order of their ids; None: those of the data.

    Raises:
        ValueError: an argument is out of range.
    """

    name = "TokenClassification"

    def __init__(
        self,
        encoder: nn.Module,
        problem: WordProblem = "entities",
        dropout: float = 0.1,
        loss: nn.Module | None = None,
        optimizer: OptimizerCallable = lambda params: AdamW(params, lr=5e-5, fused=True),
        schedule: Schedule | LRSchedulerCallable = Linear(warmup_fraction=0.1),  # noqa: B008  (it is frozen)
        weight_decay: float | None = None,
        layer_decay: float = 1.0,
        label_names: list[str] | None = None,
    ) -> None:
        super().__init__(encoder, problem, optimizer, schedule, weight_decay, layer_decay, label_names)
        if problem not in get_args(WordProblem):
            raise ValueError(f"model.init_args.problem takes one of {get_args(WordProblem)}, got {problem!r}")
        self._words = SingleLabel(None, calibration_bins=15)
        if label_names is not None:
            self._check_labels()
        if isinstance(encoder, Encoder):
            encoder.drop_pooler()
        self.dropout = dropout
        self.loss = self._words.default_loss() if loss is None else loss
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", None, persistent=False)
        self._evaluation = Evaluation()
        self._scores: Scores | None = None

    def configure_model(self) -> None:
        """Build the head for the tags of the data.

        Raises:
            ValueError: the data is of another problem, has other tags, or more word pieces than the encoder.
        """
        _check_scheme(getattr(self.trainer, "datamodule", None), self.problem)
        super().configure_model()

    def build_head(self) -> TaggingHead:
        """A linear layer, as wide as there are tags."""
        return TaggingHead(self.encoder.hidden_size, self._check_labels(), self.dropout)

    def head_modules(self) -> tuple[nn.Module, ...]:
        """The head, and the loss, which may have parameters too."""
        assert self.head is not None
        return self.head, self.loss

    def set_class_weights(self, weights: Tensor | None) -> None:
        """Weigh the tags in the training loss from now on; validation and test losses are never weighted.

        Args:
            weights: (C,) non-negative; None: all one.

        Raises:
            ValueError: the number is wrong; a weight is negative or not finite.
        """
        if weights is not None:
            weights = self._words.checked_class_weights(weights, self.label_names).to(self.device)
        self.class_weights = weights

    def forward(self, batch: WordBatch) -> Tensor:
        """(W, C) logits in float32."""
        self._check_built()
        assert self.head is not None
        return self.head(self.encoder(batch, positions=batch.places).hidden).float()

    def training_loss(self, batch: WordBatch) -> Tensor:
        """The share of a micro-batch in the weighted mean loss of its optimizer step."""
        labels, step_labels, classes = batch.labels, batch.step_labels, self.class_weights
        if labels is None or step_labels is None:
            raise ValueError(
                "a training batch takes labels and step_labels (those of its whole optimizer step), got none: take "
                "batches of bertlab.samplers.token_budget"
            )
        losses = self._words.losses(self.loss, self(batch), labels, classes)
        weights = self._words.sequence_weights(labels, classes)
        step_weights = self._words.sequence_weights(step_labels, classes)
        return weighted_mean(losses, weights, step_weights, batch.micro_batches)

    def on_validation_epoch_start(self) -> None:
        """Begin a pass."""
        self._evaluation.clear()

    def on_test_epoch_start(self) -> None:
        """Begin a pass."""
        self._evaluation.clear()

    def validation_step(self, batch: WordBatch, batch_idx: int) -> None:
        """Keep what the model says of a batch."""
        self._evaluate(batch)

    def test_step(self, batch: WordBatch, batch_idx: int) -> None:
        """Keep what the model says of a batch."""
        self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the pass under `val/`."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the pass under `test/`."""
        self._log_metrics("test")

    def predict_step(self, batch: WordBatch, batch_idx: int = 0) -> dict[str, Tensor]:
        """The answers of a batch.

        Returns:
            `index` (W,), the number of the word in its split, and `probabilities` (W, C).
        """
        return {"index": batch.words, "probabilities": self._words.answers(self(batch))}

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """The metric that the best checkpoint is chosen by, and whether less or more of it is better."""
        return ("val/f1" if self.problem == "entities" else "val/accuracy"), "max"

    def confusion_matrix(self) -> Tensor | None:
        """(C, C) int64 counts of words, rows are true tags, of the last evaluation; None before any."""
        return None if self._scores is None else self._words.confusion_matrix(self._scores)

    def evaluation_scores(self) -> Scores | None:
        """What the model said of each word in the last evaluation, on the CPU; None before any."""
        return self._scores

    def _evaluate(self, batch: WordBatch) -> None:
        if batch.labels is None:
            raise ValueError("validation and test take words with tags, got words without: use predict")
        logits = self(batch)
        losses = self._words.losses(self.loss, logits, batch.labels, None)
        # The sentence goes with the label, since an entity ends where its sentence does.
        labels = torch.stack([batch.labels, batch.sentences], dim=1)
        self._evaluation.add(batch.words, self._words.answers(logits), labels, losses)

    def _log_metrics(self, split: str) -> None:
        several = self.trainer.world_size > 1
        outputs, labels, losses = (column.cpu() for column in self._evaluation.gather(several))
        self._evaluation.clear()
        self._scores = Scores(outputs, labels[:, 0], losses)
        metrics = self._words.metrics(self._scores, None)
        if self.problem == "entities":
            assert self.label_names is not None
            found = scores_of_words(
                self._scores.labels, outputs.argmax(dim=1), labels[:, 1], self.label_names
            )
            metrics = {name: metrics[name] for name in ("loss", "accuracy")}
            metrics |= {name: torch.tensor(value) for name, value in found.items()}
        # All ranks have the same words and so the same values: their mean, which Lightning asks for, is the same too.
        values = {f"{split}/{name}": value.to(self.device) for name, value in metrics.items()}
        self.log_dict(values, prog_bar=False, sync_dist=several)

    def _check_labels(self) -> int:
        """C.

        Raises:
            ValueError: tags are missing, too few or double, or no tags of entities.
        """
        outputs = self._words.outputs(self.label_names)
        wrong = [name for name in self.label_names or () if not fits(name, "iobes")]
        if self.problem == "entities" and wrong:
            raise ValueError(
                f"model.init_args.problem 'entities' takes the tags O and B-, I-, E- or S- with a type, got "
                f"{', '.join(wrong)}: set model.init_args.problem: tags (and data.init_args.scheme: none)"
            )
        return outputs


def _check_scheme(datamodule: Any, problem: str) -> None:
    """Refuse data whose tags say entities where the task takes them for themselves, or the other way round.

    Args:
        datamodule: one that says the `scheme` of its tags; others are not checked.
        problem: of the model.

    Raises:
        ValueError: they do not go together.
    """
    scheme = getattr(datamodule, "scheme", None)
    if scheme is not None and (scheme == "none") != (problem == "tags"):
        raise ValueError(
            f"data.init_args.scheme is {scheme!r}, model.init_args.problem is {problem!r}: 'none' goes with 'tags', "
            "the others with 'entities'"
        )

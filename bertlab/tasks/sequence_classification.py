"""SequenceClassification: one answer for each text, or pair of texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import AdamW

from bertlab.encoders.encoder import Encoder
from bertlab.heads.classification import ClassificationHead
from bertlab.interfaces import TextBatch, Trunk
from bertlab.losses.reduction import weighted_mean
from bertlab.schedules.linear import Linear
from bertlab.schedules.schedule import Schedule
from bertlab.tasks.evaluation import Evaluation, Scores
from bertlab.tasks.problems import ProblemName, problem_named
from bertlab.tasks.text_task import TextTask
from bertlab.tasks.trunk import logits, run_trunk, trunk_unit


class SequenceClassification(TextTask):
    """An encoder and a head that gives each sequence a class, several classes, or a number.

    Devlin et al. 2019, arXiv:1810.04805, section 4.1. Text pairs are told apart by the segments of their
    tokens.

    Logged: `train/loss` each optimizer step, that of the whole step over all micro-batches and ranks; after
    each validation and test, under `val/` and `test/`, the loss without class weights and the metrics of the
    problem (`bertlab.tasks.single_label`, `multi_label`, `regression`).

    Args:
        encoder: a module of `bertlab.encoders`, such as `bertlab.encoders.pretrained.PretrainedEncoder`.
        problem: "single_label": one of C classes; "multi_label": any of C classes; "regression": a number.
        pool: what the head sees of the encoder: "pooled" (its own pooler), "first" token, or "mean" of all
            tokens; without "pooled" the encoder's pooler is taken away.
        dropout: of the head, in [0, 1).
        loss: a module of `bertlab.losses` that gives one value a sequence; None: CrossEntropy,
            BinaryCrossEntropy or MeanSquaredError, as the problem asks.
        optimizer: takes the parameter groups, one for each block × decayed or not.
        schedule: of the learning rate over the whole training; or any scheduler of torch, stepped after each
            optimizer step (`lightning.pytorch.cli.ReduceLROnPlateau`: after each epoch).
        weight_decay: of matrices; biases and normalisations have none. None: the optimizer's own.
        layer_decay: factor of the rate from each block to the one below, in (0, 1].
        label_names: of the C classes in the order of their ids; None: those of the data.
        positive_label: the class of the `positive_…` metrics, single-label only; None: of two classes the
            second, of more none.
        calibration_bins: of the expected calibration error.

    Raises:
        ValueError: an argument is out of range, or asks for what the problem does not have.
    """

    name = "SequenceClassification"

    def __init__(
        self,
        encoder: nn.Module,
        problem: ProblemName = "single_label",
        pool: Literal["pooled", "first", "mean"] = "pooled",
        dropout: float = 0.1,
        loss: nn.Module | None = None,
        optimizer: OptimizerCallable = lambda params: AdamW(params, lr=5e-5, fused=True),
        schedule: Schedule | LRSchedulerCallable = Linear(warmup_fraction=0.1),  # noqa: B008  (it is frozen)
        weight_decay: float | None = None,
        layer_decay: float = 1.0,
        label_names: list[str] | None = None,
        positive_label: str | None = None,
        calibration_bins: int = 15,
    ) -> None:
        super().__init__(encoder, problem, optimizer, schedule, weight_decay, layer_decay, label_names)
        self._problem = problem_named(problem, positive_label, calibration_bins)
        if label_names is not None:
            self._problem.outputs(label_names)
        self.pool: Literal["pooled", "first", "mean"] = pool
        if pool != "pooled" and isinstance(encoder, Encoder):
            encoder.drop_pooler()
        self.dropout = dropout
        self.loss = self._problem.default_loss() if loss is None else loss
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", None, persistent=False)
        self.known_trunk: Callable[[TextBatch], Trunk | None] | None = None
        self._evaluation = Evaluation()
        self._scores: Scores | None = None

    @property
    def needs_labels(self) -> bool:
        """Whether the head depends on the labels."""
        return self._problem.least_labels is not None

    @property
    def positive_label(self) -> str | None:
        """The class that the `positive_…` metrics are of; None where there is none, or no label is known yet."""
        return self._problem.positive_label(self.label_names)

    def build_head(self) -> nn.Module:
        """A classification head, as wide as the problem asks."""
        outputs = self._problem.outputs(self.label_names)
        return ClassificationHead(self.encoder.hidden_size, outputs, dropout=self.dropout, pool=self.pool)

    def head_modules(self) -> tuple[nn.Module, ...]:
        """The head, and the loss, which may have parameters too."""
        assert self.head is not None
        return self.head, self.loss

    def set_class_weights(self, weights: Tensor | None) -> None:
        """Weigh the classes in the training loss from now on; validation and test losses are never weighted.

        Single-label: a sequence weighs what its class does. Multi-label: the term of each class that is
        present does.

        Args:
            weights: (C,) non-negative; None: all one.

        Raises:
            ValueError: regression has no classes; the number is wrong; a weight is negative or not finite.
        """
        if weights is not None:
            weights = self._problem.checked_class_weights(weights, self.label_names).to(self.device)
        self.class_weights = weights

    def forward(self, batch: TextBatch) -> Tensor:
        """(S, C) logits in float32; (S, 1) for regression."""
        self._check_built()
        assert isinstance(self.head, ClassificationHead)
        known = None if self.known_trunk is None else self.known_trunk(batch)
        return logits(self.encoder, self.head, batch, known).float()

    def trunk_unit(self, blocks: int) -> Literal["token", "sequence"] | None:
        """For what the lowest blocks give a vector each; see `bertlab.interfaces.HasTrunk`."""
        return trunk_unit(self.encoder, blocks)

    def trunk(self, batch: TextBatch, blocks: int) -> Tensor:
        """What the lowest blocks make of a batch; see `bertlab.interfaces.HasTrunk`."""
        assert isinstance(self.head, ClassificationHead)
        return run_trunk(self.encoder, self.head, batch, blocks)

    def training_loss(self, batch: TextBatch) -> Tensor:
        """The share of a micro-batch in the weighted mean loss of its optimizer step."""
        labels, step_labels, classes = batch.labels, batch.step_labels, self.class_weights
        if labels is None or step_labels is None:
            raise ValueError(
                "a training batch takes labels and step_labels (those of its whole optimizer step), got "
                "none: take batches of bertlab.samplers.token_budget"
            )
        losses = self._problem.losses(self.loss, self(batch), labels, classes)
        weights = self._problem.sequence_weights(labels, classes)
        step_weights = self._problem.sequence_weights(step_labels, classes)
        return weighted_mean(losses, weights, step_weights, batch.micro_batches)

    def on_validation_epoch_start(self) -> None:
        """Begin a pass."""
        self._evaluation.clear()

    def on_test_epoch_start(self) -> None:
        """Begin a pass."""
        self._evaluation.clear()

    def validation_step(self, batch: TextBatch, batch_idx: int) -> None:
        """Keep what the model says of a batch."""
        self._evaluate(batch)

    def test_step(self, batch: TextBatch, batch_idx: int) -> None:
        """Keep what the model says of a batch."""
        self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the pass under `val/`."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the pass under `test/`."""
        self._log_metrics("test")

    def predict_step(self, batch: TextBatch, batch_idx: int = 0) -> dict[str, Tensor]:
        """The answers of a batch.

        Returns:
            `index` (S,) and `probabilities` (S, C); of a regression `index` and `values` (S,).
        """
        answers = self._problem.answers(self(batch))
        if self.problem == "regression":
            return {"index": batch.index, "values": answers.squeeze(1)}
        return {"index": batch.index, "probabilities": answers}

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """The metric that the best checkpoint is chosen by, and whether less or more of it is better."""
        name, mode = self._problem.monitor
        return f"val/{name}", mode

    def confusion_matrix(self) -> Tensor | None:
        """(C, C) int64, rows are true classes, of the last evaluation.

        None before any, and for problems in which a row has not one class.
        """
        return None if self._scores is None else self._problem.confusion_matrix(self._scores)

    def evaluation_scores(self) -> Scores | None:
        """What the model said of each row in the last evaluation, on the CPU; None before any."""
        return self._scores

    def _evaluate(self, batch: TextBatch) -> None:
        if batch.labels is None:
            raise ValueError("validation and test take rows with labels, got rows without: use predict")
        logits = self(batch)
        losses = self._problem.losses(self.loss, logits, batch.labels, None)
        self._evaluation.add(batch.index, self._problem.answers(logits), batch.labels, losses)

    def _log_metrics(self, split: str) -> None:
        several = self.trainer.world_size > 1
        scores = self._evaluation.gather(several)
        self._evaluation.clear()
        self._scores = Scores(*(column.cpu() for column in scores))
        metrics = self._problem.metrics(self._scores, self.label_names)
        # All ranks have the same rows and so the same values: their mean, which Lightning asks for, is the
        # same too.
        values = {f"{split}/{name}": value.to(self.device) for name, value in metrics.items()}
        self.log_dict(values, prog_bar=False, sync_dist=several)

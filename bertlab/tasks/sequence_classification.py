"""SequenceClassification: one answer for each text, or pair of texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from bertlab.encoders.encoder import Encoder
from bertlab.heads.classification import ClassificationHead
from bertlab.interfaces import TextBatch, Trunk
from bertlab.optimizers.row_adamw import RowAdamW
from bertlab.schedules.linear import Linear
from bertlab.schedules.schedule import Schedule
from bertlab.tasks.evaluation import Evaluation, Scores
from bertlab.tasks.labelled_task import LabelledTask
from bertlab.tasks.problems import ProblemName, problem_named
from bertlab.tasks.trunk import logits, run_trunk, trunk_unit


class SequenceClassification(LabelledTask):
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
        optimizer: OptimizerCallable = lambda params: RowAdamW(params, lr=5e-5),
        schedule: Schedule | LRSchedulerCallable = Linear(warmup_fraction=0.1),  # noqa: B008  (it is frozen)
        weight_decay: float | None = None,
        layer_decay: float = 1.0,
        label_names: list[str] | None = None,
        positive_label: str | None = None,
        calibration_bins: int = 15,
    ) -> None:
        answers = problem_named(problem, positive_label, calibration_bins)
        super().__init__(
            encoder, problem, optimizer, schedule, weight_decay, layer_decay, label_names, answers, loss
        )
        if label_names is not None:
            self._problem.outputs(label_names)
        self.pool: Literal["pooled", "first", "mean"] = pool
        if pool != "pooled" and isinstance(encoder, Encoder):
            encoder.drop_pooler()
        self.dropout = dropout
        self.known_trunk: Callable[[TextBatch], Trunk | None] | None = None

    @property
    def needs_labels(self) -> bool:
        """Whether the head depends on the labels."""
        return self._problem.least_labels is not None

    @property
    def uses_pooler(self) -> bool:
        """Whether the head sees what the encoder's own pooler gives."""
        return self.pool == "pooled"

    @property
    def positive_label(self) -> str | None:
        """The class that the `positive_…` metrics are of; None where there is none, or no label is known yet."""
        return self._problem.positive_label(self.label_names)

    def build_head(self) -> nn.Module:
        """A classification head, as wide as the problem asks."""
        outputs = self._problem.outputs(self.label_names)
        return ClassificationHead(self.encoder.hidden_size, outputs, dropout=self.dropout, pool=self.pool)

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

    def evaluate(self, batch: TextBatch, evaluation: Evaluation) -> None:
        """Add what the model says of a batch to the pass.

        Raises:
            ValueError: the batch has no labels.
        """
        if batch.labels is None:
            raise ValueError("validation and test take rows with labels, got rows without: use predict")
        logits = self(batch)
        losses = self._problem.losses(self.loss, logits, batch.labels, None)
        evaluation.add(batch.index, self._problem.answers(logits), batch.labels, losses)

    def score(self, scores: Scores) -> tuple[Scores, dict[str, Tensor]]:
        """The metrics of the problem."""
        return scores, self._problem.metrics(scores, self.label_names)

"""TokenClassification: a tag for each word of a sentence."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from bertlab.encoders.encoder import Encoder
from bertlab.heads.tagging import TaggingHead
from bertlab.interfaces import WordBatch
from bertlab.optimizers.row_adamw import RowAdamW
from bertlab.schedules.linear import Linear
from bertlab.schedules.schedule import Schedule
from bertlab.tags import fits
from bertlab.tasks.evaluation import Evaluation, Scores
from bertlab.tasks.labelled_task import LabelledTask
from bertlab.tasks.single_label import SingleLabel
from bertlab.tasks.span_scores import scores_of_words

WordProblem = Literal["entities", "tags"]


class TokenClassification(LabelledTask):
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
        optimizer: OptimizerCallable = lambda params: RowAdamW(params, lr=5e-5),
        schedule: Schedule | LRSchedulerCallable = Linear(warmup_fraction=0.1),  # noqa: B008  (it is frozen)
        weight_decay: float | None = None,
        layer_decay: float = 1.0,
        label_names: list[str] | None = None,
    ) -> None:
        answers = SingleLabel(None, calibration_bins=15)
        super().__init__(
            encoder, problem, optimizer, schedule, weight_decay, layer_decay, label_names, answers, loss
        )
        if problem not in get_args(WordProblem):
            raise ValueError(f"model.init_args.problem takes one of {get_args(WordProblem)}, got {problem!r}")
        if label_names is not None:
            self._check_labels()
        if isinstance(encoder, Encoder):
            encoder.drop_pooler()
        self.dropout = dropout

    def check_data(self, datamodule: Any) -> None:
        """Refuse data that does not go with the task.

        Raises:
            ValueError: its tags are of another problem, or it has more word pieces than the encoder.
        """
        _check_scheme(datamodule, self.problem)
        super().check_data(datamodule)

    def build_head(self) -> TaggingHead:
        """A linear layer, as wide as there are tags."""
        return TaggingHead(self.encoder.hidden_size, self._check_labels(), self.dropout)

    def forward(self, batch: WordBatch) -> Tensor:
        """(W, C) logits in float32."""
        self._check_built()
        assert self.head is not None
        return self.head(self.encoder(batch, positions=batch.places).hidden).float()

    def predict_step(self, batch: WordBatch, batch_idx: int = 0) -> dict[str, Tensor]:
        """The answers of a batch.

        Returns:
            `index` (W,), the number of the word in its split, and `probabilities` (W, C).
        """
        return {"index": batch.words, "probabilities": self._problem.answers(self(batch))}

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """The metric that the best checkpoint is chosen by, and whether less or more of it is better."""
        return ("val/f1" if self.problem == "entities" else "val/accuracy"), "max"

    def evaluate(self, batch: WordBatch, evaluation: Evaluation) -> None:
        """Add what the model says of the words of a batch to the pass; the sentence of each goes with its label.

        Raises:
            ValueError: the batch has no labels.
        """
        if batch.labels is None:
            raise ValueError("validation and test take words with tags, got words without: use predict")
        logits = self(batch)
        losses = self._problem.losses(self.loss, logits, batch.labels, None)
        labels = torch.stack([batch.labels, batch.sentences], dim=1)  # an entity ends where its sentence does
        evaluation.add(batch.words, self._problem.answers(logits), labels, losses)

    def score(self, scores: Scores) -> tuple[Scores, dict[str, Tensor]]:
        """The metrics of entities, or those of tags by themselves."""
        labels, sentences = scores.labels.unbind(1)
        kept = Scores(scores.outputs, labels, scores.losses)
        metrics = self._problem.metrics(kept, None)
        if self.problem == "entities":
            assert self.label_names is not None
            found = scores_of_words(labels, kept.outputs.argmax(dim=1), sentences, self.label_names)
            metrics = {name: metrics[name] for name in ("loss", "accuracy")}
            metrics |= {name: torch.tensor(value) for name, value in found.items()}
        return kept, metrics

    def made_up(self) -> Scores:
        """Scores of one word of a sentence."""
        return super().made_up()._replace(labels=torch.zeros(1, 2, dtype=torch.int64))

    def _check_labels(self) -> int:
        """C.

        Raises:
            ValueError: tags are missing, too few or double, or no tags of entities.
        """
        outputs = self._problem.outputs(self.label_names)
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

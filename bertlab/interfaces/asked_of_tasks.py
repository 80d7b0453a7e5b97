"""What callbacks may ask of a task."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from bertlab.interfaces.batches import TextBatch
from bertlab.interfaces.blocks import Block, Trunk


@runtime_checkable
class HasBlocks(Protocol):
    """A task or encoder whose parameters are divided into blocks, in order from the bottom to the top.

    Every parameter is in at least one block; one that is in several (a tied weight) is owned by the lowest of
    them for its rate and weight decay, and is trained when *any* block that holds it is trained.
    """

    def blocks(self) -> Sequence[Block]:
        """The blocks from the embeddings up; of a task, the last one is its head."""
        ...


@runtime_checkable
class HasEncoderBlocks(Protocol):
    """A task that tells the blocks of its encoder before its head is built."""

    def encoder_blocks(self) -> Sequence[Block]:
        """The encoder's blocks from the embeddings up: the first ones of `blocks()`."""
        ...


@runtime_checkable
class TakesAdapters(Protocol):
    """A task into whose encoder small trained modules can be put beside linear layers."""

    def add_adapters(self, settings: Mapping[str, Any], generator: torch.Generator) -> Sequence[nn.Parameter]:
        """Put adapters into the blocks of the encoder, which stay the same objects.

        Args:
            settings: of `bertlab.encoders.adapters.settings_of`.
            generator: decides about their first weights.

        Returns:
            The parameters that are to be trained in the place of the encoder's own.
        """
        ...


@runtime_checkable
class HasTrainingLoss(Protocol):
    """A task whose training loss strategies can add to, or compute several times for one step."""

    def training_loss(self, batch: Any) -> Tensor:
        """The share of a micro-batch in the loss of its optimizer step; a scalar, without any side effect.

        `training_step` calls it through `self`, since strategies put their own in its place while they train.
        """
        ...


@runtime_checkable
class HasTasks(Protocol):
    """A task, or a data module, that is made of several, each by its name."""

    @property
    def tasks(self) -> Mapping[str, Any]:
        """The tasks, or the data modules, in order."""
        ...


@runtime_checkable
class HasParts(Protocol):
    """A batch that is made of one for each of several tasks."""

    @property
    def parts(self) -> Sequence[Any]:
        """The batches, each with the name of its `task`."""
        ...


@runtime_checkable
class HasWordEmbedding(Protocol):
    """A task whose word vectors strategies can perturb."""

    @property
    def word_embedding(self) -> nn.Module:
        """The table of the word pieces: its output holds a vector for each token of the batch."""
        ...


@runtime_checkable
class HasTrunk(Protocol):
    """A task whose model can be run in two parts: its lowest blocks, and from there on.

    What the lowest blocks make of a sequence, while they are in evaluation mode, depends on its tokens alone.
    """

    #: asked by `forward` for what is known of a batch; where nobody is there to ask, or nothing is known (None), the
    #: whole model is run.
    known_trunk: Callable[[TextBatch], Trunk | None] | None

    def trunk_unit(self, blocks: int) -> Literal["token", "sequence"] | None:
        """For what the lowest blocks give a vector each; None: the model cannot be divided above them."""
        ...

    def trunk(self, batch: TextBatch, blocks: int) -> Tensor:
        """What the lowest blocks make of a batch: (N, D) or (S, D), as `trunk_unit` says."""
        ...


@runtime_checkable
class HasClassWeights(Protocol):
    """A task whose training loss takes a weight for each class."""

    def set_class_weights(self, weights: Tensor | None) -> None:
        """Take (C,) non-negative weights for the training loss from now on; None: all one.

        A task that is made of several takes those of each that has classes, one after another in its order.
        """
        ...


@runtime_checkable
class HasConfusionMatrix(Protocol):
    """A task that counts its confusion matrix while it validates or tests."""

    def confusion_matrix(self) -> Tensor | None:
        """(C, C) int64, rows are true classes; of the evaluation that ended last, None before any."""
        ...


@runtime_checkable
class NamesUnvalidatedTasks(Protocol):
    """A task, made of several, that says before training which of them are not validated."""

    def unvalidated_tasks(self) -> Collection[str]:
        """Names of the tasks whose data has no validation split; nothing is logged under `val/<name>/`."""
        ...


@runtime_checkable
class NamesMetrics(Protocol):
    """A task that says before training what its validations log."""

    def validation_metrics(self) -> Collection[str]:
        """All keys, such as "val/loss"; asked for when the head is built."""
        ...

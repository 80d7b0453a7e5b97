"""TextTask: what all tasks of an encoder and a head have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from bertlab.interfaces import Block, MultiTaskBatch, TextBatch
from bertlab.schedules.schedule import Schedule
from bertlab.tasks.adapters import adapters_from, describe_adapters
from bertlab.tasks.checkpoint import check_problem, check_shapes, check_task, describe
from bertlab.tasks.finite_loss import FiniteLoss
from bertlab.tasks.optimization import optimization
from bertlab.tasks.sharding import refuse_fsdp1, shard_blocks
from bertlab.tasks.step_loss import StepLoss, micro_batches_of_a_rank
from bertlab.tasks.tokens_of_data import check_tokens


class TextTask(LightningModule):
    """An encoder under a head: building, optimizer, checkpoints and the training loss of a whole step.

    The head is built when a trainer takes the task (`configure_model`), since only then are the labels of the
    data known. A subclass says how, in `build_head`.

    Args:
        encoder: a module with the interface of `bertlab.encoders`.
        problem: what kind of answers the task gives; a checkpoint of another problem is refused.
        optimizer: takes the parameter groups.
        schedule: of the learning rate, or a maker of any scheduler of torch.
        weight_decay: of matrices; None: the optimizer's own.
        layer_decay: factor of the rate from each block to the one below.
        label_names: in the order of their ids; None: those of the data, if it has any.

    Raises:
        ValueError: the encoder does not have the interface.
    """

    #: the name under which checkpoints know the task.
    name: str
    #: the argument that says the problem, for messages.
    problem_key: str = "problem"
    #: whether it can say nothing before it is trained: its head is made anew.
    needs_training: bool = True

    def __init__(
        self,
        encoder: nn.Module,
        problem: str,
        optimizer: OptimizerCallable,
        schedule: Schedule | LRSchedulerCallable,
        weight_decay: float | None,
        layer_decay: float,
        label_names: Sequence[str] | None,
    ) -> None:
        super().__init__()
        missing = [n for n in ("blocks", "hidden_size", "vocabulary_size") if not hasattr(encoder, n)]
        if missing:
            raise ValueError(
                "model.init_args.encoder takes a class of bertlab.encoders, got "
                f"{type(encoder).__name__}, which has no {' and no '.join(missing)}"
            )
        self.encoder: Any = encoder
        self.head: nn.Module | None = None
        self.problem = problem
        self.optimizer, self.schedule = optimizer, schedule
        self.weight_decay, self.layer_decay = weight_decay, layer_decay
        self.label_names = None if label_names is None else tuple(label_names)
        self._blocks: tuple[Block, ...] = ()
        self._step_loss, self._finite = StepLoss(), FiniteLoss()
        self._has_stepped = False

    @abstractmethod
    def build_head(self) -> nn.Module:
        """The head for `self.label_names`.

        Raises:
            ValueError: the labels are not known, or do not fit the problem.
        """

    @abstractmethod
    def head_modules(self) -> tuple[nn.Module, ...]:
        """The modules of the block "head": the head, and all else that is not the encoder."""

    @property
    def needs_labels(self) -> bool:
        """Whether the head depends on the labels."""
        return True

    def setup(self, stage: str) -> None:
        """Train mode, whatever mode the encoder came in: from_pretrained gives evaluation mode."""
        if stage == "fit":
            self.train()

    def configure_model(self) -> None:
        """Build the head for the labels of the data; if it is built, check that they are its own.

        Raises:
            TypeError: the trainer's strategy is FSDP1.
            ValueError: the data is of another problem, has other labels, or does not go with the encoder.
        """
        refuse_fsdp1(self.trainer)
        self.adapt_to(getattr(self.trainer, "datamodule", None), training=bool(self.trainer.training))

    def adapt_to(self, datamodule: Any, training: bool) -> None:
        """Build the head for the labels of the data; if it is built, check that they are its own.

        Args:
            datamodule: of the trainer, or of this task among several.
            training: whether the head is needed now; if not, a checkpoint may know the labels of unlabelled data.

        Raises:
            ValueError: as `check_data`; or the data has other labels.
        """
        self.check_data(datamodule)
        self._take_label_names(getattr(datamodule, "label_names", None))
        if self.head is not None:
            return
        if self.needs_labels and self.label_names is None and not training:
            return  # unlabelled data: the checkpoint, which is read next, knows the labels
        self.head = self.build_head()
        if self.device_mesh is not None:
            shard_blocks(self.blocks(), (self.encoder, self.head), self.device_mesh)

    def check_data(self, datamodule: Any) -> None:
        """Refuse data that does not go with the task.

        Raises:
            ValueError: it is of another problem, or has more word pieces or longer texts than the encoder takes.
        """
        check_problem(datamodule, self.problem)
        check_tokens(datamodule, self.encoder)

    def blocks(self) -> Sequence[Block]:
        """The encoder's blocks from the embeddings up, then the head.

        Raises:
            RuntimeError: the head is not built yet.
        """
        if not self._blocks:
            self._check_built()
            self._blocks = (*self.encoder_blocks(), Block("head", self.head_modules(), depth=0))
        return self._blocks

    def encoder_blocks(self) -> Sequence[Block]:
        """The encoder's blocks from the embeddings up."""
        return self.encoder.blocks()

    def add_adapters(self, settings: Mapping[str, Any], generator: torch.Generator) -> Sequence[nn.Parameter]:
        """Put adapters into the encoder; see `bertlab.interfaces.TakesAdapters`.

        Raises:
            TypeError: the encoder takes none.
        """
        if not hasattr(self.encoder, "add_adapters"):
            raise TypeError(
                f"adapters need an encoder that takes them: {type(self.encoder).__name__} has no add_adapters"
            )
        return self.encoder.add_adapters(settings, generator).parameters

    def compile_layers(self, backend: str = "inductor") -> None:
        """Compile the layers of the encoder in place; see `bertlab.encoders.compiled`.

        Raises:
            TypeError: the encoder cannot do it.
        """
        if not hasattr(self.encoder, "compile_layers"):
            raise TypeError(
                f"run.compile needs an encoder of bertlab.encoders: {type(self.encoder).__name__} has no compile_layers"
            )
        self.encoder.compile_layers(backend)

    @property
    def word_embedding(self) -> nn.Module:
        """The encoder's table of word pieces."""
        return self.encoder.word_embedding

    @abstractmethod
    def training_loss(self, batch: Any) -> Tensor:
        """The share of a micro-batch in the loss of its optimizer step, without any side effect."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The share of a micro-batch in the loss of its optimizer step, logged with the last of them."""
        # Through self: strategies may have put a loss of their own in its place.
        return self.finish_training_step(self.training_loss(batch), batch)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step as Lightning does."""
        super().optimizer_step(*args, **kwargs)
        self._has_stepped = True

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Let the gradients of a step go when callbacks have seen them: the next one's activations need their room."""
        if self._has_stepped:
            self._has_stepped = False
            for optimizer in self.trainer.optimizers:  # a walk over all modules takes a millisecond and more
                optimizer.zero_grad()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer over one group for each block × decayed or not, and the schedule."""
        return optimization(self, self.optimizer, self.schedule, self.weight_decay, self.layer_decay)

    def finish_training_step(self, loss: Tensor, batch: TextBatch | MultiTaskBatch) -> Tensor:
        """Check the loss of a micro-batch, and log that of the optimizer step with its last micro-batch.

        Args:
            loss: of `bertlab.losses.reduction`.
            batch: that it is of.

        Raises:
            ValueError: the loss is not finite.
        """
        ranks = self.trainer.world_size
        self._finite.check(loss, self.global_step)
        mean = self._step_loss.add(loss, micro_batches_of_a_rank(batch, self.trainer))
        if mean is not None:
            self.log("train/loss", mean, prog_bar=True, sync_dist=ranks > 1)
        return loss

    def on_train_epoch_start(self) -> None:
        """Forget a step that a stopped epoch left half done."""
        self._step_loss.clear()

    def on_train_epoch_end(self) -> None:
        """Check the last loss of the epoch."""
        self._finite.flush()

    def on_train_end(self) -> None:
        """Check that of a training which ended within one."""
        self._finite.flush()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the checkpoint is of."""
        describe(checkpoint, self.name, self.problem, self.label_names)
        describe_adapters(checkpoint, self.encoder)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that does not fit; take the labels from it where none are known.

        Raises:
            ValueError: it is of another task, problem, labels, encoder or head.
        """
        names = check_task(checkpoint, self.name, self.problem, self.label_names, self.problem_key)
        if self.head is None:
            self.label_names = names
            self.head = self.build_head()
        adapters_from(checkpoint, self.encoder, self.is_fitting)
        check_shapes(checkpoint, self.state_dict())

    @property
    def is_fitting(self) -> bool:
        """Whether a trainer is training it."""
        return self._trainer is not None and self._trainer.state.fn == "fit"

    def _check_built(self) -> None:
        if self.head is None:
            raise RuntimeError("the head is not built: neither data nor a checkpoint has told the labels yet")

    def _take_label_names(self, names: Sequence[str] | None) -> None:
        if names is None:
            return
        if self.label_names is not None and tuple(names) != self.label_names:
            raise ValueError(
                f"the labels of the data are {list(names)}, those of the model {list(self.label_names)}: "
                "they must be the same in the same order (data.init_args.label_names, "
                "model.init_args.label_names)"
            )
        self.label_names = tuple(names)

"""MultiTask: several tasks with heads of their own over one encoder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from bertlab.interfaces import HasTasks, MultiTaskBatch, TextBatch
from bertlab.optimizers.row_adamw import RowAdamW
from bertlab.schedules.linear import Linear
from bertlab.schedules.schedule import Schedule
from bertlab.tasks.adapters import adapters_from, describe_adapters
from bertlab.tasks.checkpoint import LABEL_NAMES, PROBLEM, TASK, check_shapes, check_task, describe
from bertlab.tasks.joined_metrics import TaskMetrics, joined_metrics
from bertlab.tasks.labelled_task import LabelledTask
from bertlab.tasks.several import KEY, check_names, check_same_names, made_over, of_task, unvalidated
from bertlab.tasks.sharding import shard_blocks
from bertlab.tasks.step_loss import micro_batches_of_a_rank
from bertlab.tasks.task_losses import TaskLosses
from bertlab.tasks.text_task import TextTask

#: In a checkpoint: the loss of each task in the last step that was of it.
TASK_LOSSES = "bertlab_task_losses"


class MultiTask(TextTask):
    """Named tasks, each with its own head, loss and metrics, over one encoder that all of them train.

    Caruana 1997 (hard sharing of parameters); of BERT Liu et al. 2019, arXiv:1901.11504. The loss of an optimizer step
    is the mean of those of the tasks that it is of (`bertlab.data.multi_task.MultiTaskData` says how many), each as
    that of the task alone: a mean over all rows of the step, micro-batches and ranks. A head that a step holds no row
    for is left as it is, without weight decay or momentum. All heads together are the block "head".

    Logged: `train/loss` each optimizer step, of the tasks that the step is of, and `train/<task>/loss`, that of the
    last step that was of the task; after each validation and test, under `val/<task>/` and `test/<task>/`, what the
    task alone logs; `val/loss`, the mean of the tasks' losses; and `val/mean_score`, the mean of the metrics that each
    task alone would be watched by (one of which less is better counts negatively), which the best checkpoint is chosen
    by. A prediction is a file for each task, an export a folder.

    Costs: what the tasks cost one after another. A step of k tasks keeps the activations of all k until its backward.

    Args:
        encoder: a module of `bertlab.encoders`, such as `bertlab.encoders.pretrained.PretrainedEncoder`.
        tasks: two or more of `SequenceClassification` and `TokenClassification` by their names, which metrics show
            and data.init_args.tasks repeats; each without an encoder, and without settings of the optimization.
        optimizer: takes the parameter groups, one for each block × decayed or not.
        schedule: of the learning rate over the whole training; or any scheduler of torch, stepped after each optimizer
            step (`lightning.pytorch.cli.ReduceLROnPlateau`: after each epoch).
        weight_decay: of matrices; biases and normalisations have none. None: the optimizer's own.
        layer_decay: factor of the rate from each block to the one below, in (0, 1].

    Raises:
        ValueError: an argument is out of range.
    """

    name = "MultiTask"
    problem_key = "tasks"

    def __init__(
        self,
        encoder: nn.Module,
        tasks: dict[str, Callable[[nn.Module], LabelledTask]],
        optimizer: OptimizerCallable = lambda params: RowAdamW(params, lr=5e-5),
        schedule: Schedule | LRSchedulerCallable = Linear(warmup_fraction=0.1),  # noqa: B008  (it is frozen)
        weight_decay: float | None = None,
        layer_decay: float = 1.0,
    ) -> None:
        check_names(tasks)
        made = made_over(encoder, tasks)
        problem = ", ".join(f"{name}: {task.name} {task.problem}" for name, task in made.items())
        super().__init__(encoder, problem, optimizer, schedule, weight_decay, layer_decay, None)
        # In a dictionary, which torch does not look into: their modules are in `encoder` and `head`, once.
        self._tasks = made
        self._idle: list[nn.Parameter] = []
        self._task_losses = TaskLosses()

    @property
    def tasks(self) -> Mapping[str, LabelledTask]:
        """The tasks by their names."""
        return self._tasks

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """The metric that the best checkpoint is chosen by, and whether less or more of it is better."""
        return "val/mean_score", "max"

    def adapt_to(self, datamodule: Any, training: bool) -> None:
        """Build the heads for the labels of the data; those that are built, check that they are its own.

        Raises:
            ValueError: the data is not of several tasks, or of others; or does not go with one of them.
        """
        if not isinstance(datamodule, HasTasks):
            raise ValueError(
                f"{type(self).__name__} takes the data of several tasks, bertlab.data.multi_task.MultiTaskData, got "
                f"{type(datamodule).__name__}"
            )
        check_same_names(self._tasks, datamodule.tasks, training)
        for name, data in datamodule.tasks.items():
            with of_task(name):
                self._tasks[name].adapt_to(data, training)
        if self.head is None and all(task.head is not None for task in self._tasks.values()):
            self.head = self.build_head()
            if self.device_mesh is not None:
                heads = (task.head for task in self._tasks.values() if task.head is not None)
                shard_blocks(self.blocks(), (self.encoder, *heads), self.device_mesh)

    def build_head(self) -> nn.ModuleDict:
        """The heads of all tasks, and their losses."""
        parts = {name: task.head_modules() for name, task in self._tasks.items()}
        return nn.ModuleDict({name: nn.ModuleList(modules) for name, modules in parts.items()})

    def head_modules(self) -> tuple[nn.Module, ...]:
        """The heads and losses of all tasks."""
        return tuple(module for task in self._tasks.values() for module in task.head_modules())

    def set_class_weights(self, weights: Tensor | None) -> None:
        """Weigh the classes in the training losses from now on.

        Args:
            weights: (C,) those of each task that has classes, one after another; None: all one.
        """
        weighed = {
            task: len(task.label_names) for task in self._tasks.values() if task.label_names is not None
        }
        parts = [None] * len(weighed) if weights is None else weights.split(list(weighed.values()))
        for task, part in zip(weighed, parts, strict=True):
            task.set_class_weights(part)

    def forward(self, batch: TextBatch) -> Tensor:
        """What the batch's task gives."""
        return self._task_of(batch)(batch)

    def training_loss(self, batch: MultiTaskBatch | TextBatch) -> Tensor:
        """The share of a micro-batch, or of the part of it that is one task's, in the loss of its optimizer step."""
        parts = batch.parts if isinstance(batch, MultiTaskBatch) else (batch,)
        return torch.stack([self._task_of(part).training_loss(part) for part in parts]).mean()

    def training_step(self, batch: MultiTaskBatch, batch_idx: int) -> Tensor:
        """The share of a micro-batch in the loss of its optimizer step, logged with the last of them."""
        losses = {str(part.task): self.training_loss(part) for part in batch.parts}
        loss = torch.stack(list(losses.values())).mean()
        if isinstance(self.trainer.strategy, DDPStrategy):
            # DDP waits for a gradient of each parameter: here 0, which `on_after_backward` takes away.
            self._idle = self._without_gradient({str(part.task) for part in batch.parts})
            for parameter in self._idle:
                loss = loss + 0.0 * parameter.sum()
        self._task_losses.add(losses, micro_batches_of_a_rank(batch, self.trainer), self.trainer)
        self.log_dict(self._task_losses.logged())
        return self.finish_training_step(loss, batch)

    def on_train_epoch_start(self) -> None:
        """Forget a step that a stopped epoch left half done."""
        super().on_train_epoch_start()
        self._task_losses.clear()

    def on_after_backward(self) -> None:
        """Let what the step has no rows for be without a gradient, as on one rank."""
        for parameter in self._idle:
            parameter.grad = None
        self._idle = []

    def predict_step(
        self, batch: TextBatch, batch_idx: int = 0, dataloader_idx: int = 0
    ) -> dict[str, Tensor | str]:
        """What the batch's task gives, and the name of the `task`."""
        return {**self._task_of(batch).predict_step(batch, batch_idx), "task": str(batch.task)}

    def on_validation_epoch_start(self) -> None:
        """Begin a pass."""
        self._each(LabelledTask.on_validation_epoch_start)

    def on_test_epoch_start(self) -> None:
        """Begin a pass."""
        self._each(LabelledTask.on_test_epoch_start)

    def validation_step(self, batch: TextBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keep what the model says of a batch."""
        self._task_of(batch).validation_step(batch, batch_idx)

    def test_step(self, batch: TextBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keep what the model says of a batch."""
        self._task_of(batch).test_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the pass under `val/`."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the pass under `test/`."""
        self._log_metrics("test")

    def validation_metrics(self) -> Collection[str]:
        """The keys that a validation logs: those of all tasks together, and of each that has data to validate on."""
        validated = self._tasks.keys() - self.unvalidated_tasks()
        of_tasks = (
            (n, key) for n, t in self._tasks.items() if n in validated for key in t.validation_metrics()
        )
        own = ("val/loss", "val/mean_score")
        return [*own, *(f"val/{name}/{key.removeprefix('val/')}" for name, key in of_tasks)]

    def unvalidated_tasks(self) -> Collection[str]:
        """Names of the tasks whose data has no validation split."""
        return unvalidated(None if self._trainer is None else getattr(self._trainer, "datamodule", None))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the checkpoint is of."""
        describe(checkpoint, self.name, self.problem, None)
        names = {name: task.label_names for name, task in self._tasks.items()}
        checkpoint[LABEL_NAMES] = {name: known and list(known) for name, known in names.items()}
        checkpoint[TASK_LOSSES] = self._task_losses.state()
        describe_adapters(checkpoint, self.encoder)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that does not fit; take the labels from it where none are known.

        Raises:
            ValueError: it is of other tasks, labels, encoder or heads.
        """
        check_task({**checkpoint, LABEL_NAMES: None}, self.name, self.problem, None, self.problem_key)
        for name, task in self._tasks.items():
            own = {TASK: task.name, PROBLEM: task.problem, LABEL_NAMES: checkpoint[LABEL_NAMES][name]}
            with of_task(name):
                labels = check_task(own, task.name, task.problem, task.label_names)
            if task.head is None:
                task.label_names = labels
                task.head = task.build_head()
        if self.head is None:
            self.head = self.build_head()
        self._task_losses.restore(checkpoint.get(TASK_LOSSES, {}))
        adapters_from(checkpoint, self.encoder, self.is_fitting)
        check_shapes(checkpoint, self.state_dict())

    def _task_of(self, batch: TextBatch) -> LabelledTask:
        if batch.task not in self._tasks:
            raise ValueError(
                f"the batch is of the task {batch.task!r}, {KEY} has {', '.join(self._tasks)}: take the batches of "
                "bertlab.data.multi_task.MultiTaskData"
            )
        return self._tasks[batch.task]

    def _each(self, act: Callable[[LabelledTask], None]) -> None:
        for task in self._tasks.values():
            act(task)

    def _without_gradient(self, names: set[str]) -> list[nn.Parameter]:
        """What is trained, and has no part in the loss of these tasks: other heads, a pooler that none uses."""
        idle = [module for name, t in self._tasks.items() if name not in names for module in t.head_modules()]
        if not any(self._tasks[name].uses_pooler for name in names):
            idle += [m for block in self.encoder_blocks() if block.name == "pooler" for m in block.modules]
        return [p for module in idle for p in module.parameters() if p.requires_grad]

    def _log_metrics(self, split: str) -> None:
        several = self.trainer.world_size > 1
        evaluated = {name: task for name, task in self._tasks.items() if task.was_evaluated}
        found = {
            name: TaskMetrics(task.finish_evaluation(several), key.removeprefix("val/"), mode)
            for name, task in evaluated.items()
            for key, mode in [task.monitor]
        }
        metrics = joined_metrics(found, split)
        # All ranks have the same rows and so the same values: their mean, which Lightning asks for, is the same too.
        self.log_dict({key: value.to(self.device) for key, value in metrics.items()}, sync_dist=several)

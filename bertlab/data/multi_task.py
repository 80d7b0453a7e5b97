"""MultiTaskData: several data modules in one, whose tasks take turns in training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from bertlab.data.loader import ResumableLoader, check_limit, check_trainer, loader_options
from bertlab.data.mixture_position import MixturePosition
from bertlab.data.progress import steps_per_epoch
from bertlab.data.task_names import KEY, of_task
from bertlab.data.text_data import TextData
from bertlab.data.tokenised_texts import TokenisedTexts
from bertlab.interfaces import MultiTaskBatch
from bertlab.samplers.task_mixture import TaskMixtureSampler, TaskParts, annealed


class MultiTaskData(LightningDataModule):
    """Named data modules; each optimizer step is of one of them, or of several, drawn by their sizes.

    Stickland & Murray 2019, arXiv:1902.02671, section 4.1: a task is drawn with a probability proportional to the
    number of its training rows (of tagged sentences: windows) to the power α. The draw of an epoch is a function of
    (seed, epoch), the same on all ranks. Each task goes through its own rows in its own epochs, in steps of its own
    `batch_size` or `max_tokens`. Validation, test and prediction take each task's split as a loader of its own.

    What a checkpoint holds is the place in the epoch, as of one task, and how many steps each task has had.

    Args:
        tasks: two or more data modules of texts or of tagged words by the names of their tasks, those of
            `model.init_args.tasks`; each without a tokenizer, and without a seed unless it is to have its own.
        tokenizer: of all: `packaged:<name>`, a folder, or a hub id.
        alpha: α, in [0, 1]: 1 draws tasks by their numbers of rows, 0 all alike.
        final_alpha: α of the last epoch, reached on a line from `alpha` in the first; None: α stays. The paper anneals
            from 1 to 0.2: α = 1 − 0.8·(e − 1)/(E − 1).
        tasks_per_step: how many different tasks an optimizer step is of; its loss is the mean of theirs.
        steps_per_epoch: optimizer steps of an epoch; None: as many as all rows of all tasks take once, which is what
            each task takes on average at α = 1.
        seed: of the draw, and of the order of the rows of each task; None: that of the run where there is one, else 0.
        num_workers: processes that make training batches.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        tasks: dict[str, Callable[[str], TextData]],
        tokenizer: str,
        alpha: float = 1.0,
        final_alpha: float | None = None,
        tasks_per_step: int = 1,
        steps_per_epoch: int | None = None,
        seed: int | None = None,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        if len(tasks) < 2:
            raise ValueError(
                f"{KEY} takes two tasks or more, got {list(tasks)}: for one, take its own data module"
            )
        for key, value in (("alpha", alpha), ("final_alpha", alpha if final_alpha is None else final_alpha)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"data.init_args.{key} takes a number in [0, 1], got {value}")
        if not 1 <= tasks_per_step <= len(tasks):
            raise ValueError(
                f"data.init_args.tasks_per_step takes 1 to {len(tasks)}, the number of tasks, got {tasks_per_step}"
            )
        if steps_per_epoch is not None and steps_per_epoch < 1:
            raise ValueError(f"data.init_args.steps_per_epoch takes 1 or more, got {steps_per_epoch}")
        self.alpha, self.final_alpha = alpha, alpha if final_alpha is None else final_alpha
        self.tasks_per_step, self.steps_per_epoch = tasks_per_step, steps_per_epoch
        self.seed, self.num_workers = seed or 0, num_workers
        self.tasks: dict[str, TextData] = {}
        for name, make in tasks.items():
            with of_task(name):
                data = make(tokenizer)
                data.task = name
                data.seed = data.seed if data.has_own_seed else self.seed
            self.tasks[name] = data
        self._position = MixturePosition()
        self._sampler: TaskMixtureSampler | None = None

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, as the first task takes it."""
        return next(iter(self.tasks.values())).tokenizer

    @property
    def label_names(self) -> dict[str, tuple[str, ...] | None]:
        """Of each task its classes in the order of their ids; None before they are known, and where there are none."""
        return {name: data.label_names for name, data in self.tasks.items()}

    @label_names.setter
    def label_names(self, names: Mapping[str, Sequence[str] | None]) -> None:
        for name, data in self.tasks.items():
            known = names.get(name)
            if known is not None:
                data.label_names = tuple(known)

    def prepare_data(self) -> None:
        """Download, repair and tokenise into the cache, on one process."""
        for name, data in self._followed():
            with of_task(name):
                data.prepare_data()

    def setup(self, stage: str) -> None:
        """Read what a stage needs."""
        check_trainer(self.trainer)
        for name, data in self._followed():
            with of_task(name):
                data.setup(stage)

    def train_dataloader(self) -> DataLoader[Any]:
        """Micro-batches of optimizer steps whose tasks all ranks share; resumable anywhere."""
        datasets: dict[str, TokenisedTexts] = {}
        samplers: dict[str, Any] = {}
        for name, data in self._followed():
            with of_task(name):
                datasets[name], samplers[name] = data.dataset("train"), data.train_sampler()
        self._sampler = TaskMixtureSampler(
            samplers,
            {name: len(dataset) for name, dataset in datasets.items()},
            self._alpha_of,
            self.tasks_per_step,
            self.steps_per_epoch,
            self.seed,
        )
        options = loader_options(self.num_workers, self.seed)
        loader = ResumableLoader(_TrainingRows(datasets), sampler=self._sampler, **options)
        if self.trainer is not None:
            check_limit(self.trainer, len(loader))
            loader.position = partial(self._position.at_first_batch, self.trainer, self._sampler)
        return loader

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """The validation split of each task that has one."""
        return self._loaders("validation")

    @property
    def has_test(self) -> bool:
        """Whether any task has a test split."""
        return any(data.has_test for data in self.tasks.values())

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """The test split of each task that has one.

        Raises:
            ValueError: none has.
        """
        loaders = self._loaders("test")
        if not loaders:
            raise ValueError(f"{KEY}: no task has a test split")
        return loaders

    def predict_dataloader(self) -> list[DataLoader[Any]]:
        """The rows of each task's `predict_source`, else of its test split."""
        return self._loaders("predict")

    def state_dict(self) -> dict[str, Any]:
        """Where in the data the training is, as plain numbers."""
        trainer = self.trainer
        if trainer is None or self._sampler is None or trainer.fit_loop.max_batches == float("inf"):
            return {}
        return self._position.state_dict(trainer, self._sampler)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint was saved.

        Raises:
            ValueError: it is of other tasks.
        """
        if list(state_dict["tasks"]) != list(self.tasks):
            raise ValueError(
                f"The checkpoint is of the tasks {list(state_dict['tasks'])}, {KEY} names {list(self.tasks)}: training "
                "goes on with the same, in the same order"
            )
        self._position.load_state_dict(state_dict)

    def _loaders(self, split: str) -> list[DataLoader[Any]]:
        found: list[DataLoader[Any]] = []
        for name, data in self._followed():
            with of_task(name):
                if split == "predict":
                    found.append(data.predict_dataloader())
                elif split in data.splits(split):
                    found.append(data.evaluation_loader(split))
        return found

    def _followed(self) -> Iterator[tuple[str, TextData]]:
        """The tasks by name, each of which knows the trainer."""
        for name, data in self.tasks.items():
            data.trainer = self.trainer
            yield name, data

    def _alpha_of(self, epoch: int) -> float:
        """α of an epoch, counted from 0."""
        if self.final_alpha == self.alpha:
            return self.alpha
        return annealed(self.alpha, self.final_alpha, epoch, self._epochs())

    def _epochs(self) -> int:
        """E, epochs of the whole training.

        Raises:
            ValueError: training has no end.
        """
        trainer = self.trainer
        ends: list[int] = []
        if trainer is not None and trainer.max_epochs is not None and trainer.max_epochs >= 0:
            ends.append(trainer.max_epochs)
        if trainer is not None and trainer.max_steps >= 0:
            ends.append(math.ceil(trainer.max_steps / steps_per_epoch(trainer)))
        if not ends:
            raise ValueError(
                "data.init_args.final_alpha is that of the last epoch, and training has no end: set trainer.max_epochs "
                "or trainer.max_steps"
            )
        return min(ends)


class _TrainingRows(Dataset[MultiTaskBatch]):
    """The training rows of several tasks, indexed by the micro-batch of each task that a step is of.

    Args:
        datasets: the rows of each task.
    """

    def __init__(self, datasets: Mapping[str, TokenisedTexts]) -> None:
        self._datasets = datasets

    def __getitem__(self, parts: TaskParts) -> MultiTaskBatch:
        """The batch of a micro-batch."""
        return MultiTaskBatch(tuple(self._datasets[name][part] for name, part in parts.items()))

    def quantities(self, parts: TaskParts) -> dict[str, float]:
        """Sequences and tokens of the whole optimizer step that a micro-batch belongs to, over all its tasks."""
        held = [self._datasets[name].quantities(part) for name, part in parts.items()]
        return {key: sum(found[key] for found in held) for key in held[0]}

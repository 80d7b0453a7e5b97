"""TextData: what the data modules of texts with answers have in common."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from bertlab.data.loader import ResumableLoader, check_limit, check_trainer, loader_options
from bertlab.data.progress import EpochPosition
from bertlab.data.text_course import check_text_course
from bertlab.data.tokenised import load_tokenizer
from bertlab.data.tokenised_texts import TokenisedTexts
from bertlab.interfaces import Course
from bertlab.samplers.sorted_batches import SortedBatchSampler
from bertlab.samplers.token_budget import DrawsRows, TokenBudgetSampler

STAGES = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",)}


class TextData(LightningDataModule):
    """Rows of text, read, divided and tokenised once, in batches planned by optimizer step.

    Args:
        tokenizer: where the tokenizer comes from.
        label_names: in the order of their ids; None: those of the data.
        batch_size: sequences of an optimizer step at most; None: no limit but `max_tokens`.
        max_tokens: tokens of an optimizer step at most.
        evaluation_max_tokens: tokens of a batch of validation, test and prediction at most.
        seed: of the order of the training rows; None: 0.
        num_workers: processes that make batches.
        predict_source: an unlabelled file to predict; None: the test split.

    Attributes:
        task: name of the task that batches are of, where there are several.
        has_own_seed: whether a seed was given.
    """

    task: str | None = None

    def __init__(
        self,
        tokenizer: str,
        label_names: list[str] | None,
        batch_size: int | None,
        max_tokens: int | None,
        evaluation_max_tokens: int,
        seed: int | None,
        num_workers: int,
        predict_source: str | None,
    ) -> None:
        super().__init__()
        self.batch_size, self.max_tokens = batch_size, max_tokens
        self.evaluation_max_tokens = evaluation_max_tokens
        self.seed, self.num_workers = seed or 0, num_workers
        self.has_own_seed = seed is not None
        self.predict_source = predict_source
        self._tokenizer_source, self._tokenizer = tokenizer, None
        self._label_names: tuple[str, ...] | None = None if label_names is None else tuple(label_names)
        self._rows: dict[str, Any] = {}
        self._tokenised: dict[str, TokenisedTexts] = {}
        self._position = EpochPosition()
        self._course = Course()

    @abstractmethod
    def read(self) -> dict[str, Any]:
        """The rows of every split there is; `self._label_names` is known afterwards, if there are labels."""

    @abstractmethod
    def read_unlabelled(self, path: str) -> Any:
        """The rows of a file to predict."""

    @abstractmethod
    def tokenised(self, rows: Any) -> TokenisedTexts:
        """The rows of a split as token ids."""

    def drawn(self, dataset: TokenisedTexts) -> DrawsRows | None:
        """What chooses the rows of a training epoch; None: every row once."""
        return None

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The classes in the order of their ids; None before they are known, and where there are none."""
        return self._label_names

    @label_names.setter
    def label_names(self, names: tuple[str, ...] | list[str] | None) -> None:
        chosen = None if names is None else tuple(names)
        if self._rows and chosen != self._label_names:
            raise RuntimeError(
                f"label_names {chosen} come too late: the data was read with {self._label_names}."
            )
        self._label_names = chosen

    @property
    def tokenizer(self) -> Any:
        """The fast tokenizer of transformers, loaded on first use."""
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self._tokenizer_source)
        return self._tokenizer

    @property
    def has_validation(self) -> bool:
        """Whether there is a validation split."""
        return "validation" in self.splits("validation")

    @property
    def has_test(self) -> bool:
        """Whether there is a test split."""
        return "test" in self.splits("test")

    @property
    def course_parts(self) -> frozenset[str]:
        """What strategies can change from step to step."""
        return frozenset({"length", "batch_size", "order"})

    @property
    def longest_sequence(self) -> int:
        """Tokens of the longest training row."""
        return int(self.dataset("train").lengths.max())

    @property
    def full_batch(self) -> int:
        """Rows of an optimizer step, at most."""
        sampler = self.train_dataloader().sampler
        assert isinstance(sampler, TokenBudgetSampler)
        return -(-len(self.dataset("train")) // sampler.steps_per_epoch)

    def longest_row(self) -> int:
        """Tokens of the longest row that was read in `setup`; after a training the test split may be read too."""
        if "train" in self._tokenised and self.has_test:
            self.dataset("test")
        return max((int(found.lengths.max()) for found in self._tokenised.values()), default=0)

    def follow(self, course: Course) -> None:
        """Change the training data from step to step; see `bertlab.interfaces.FollowsCourse`.

        A step of a batch that grows has a random part of the rows that it has otherwise: rows that are left out are
        not seen in that epoch. Steps that are drawn from easy rows take as many as otherwise (of `max_tokens` as many
        as fit), a row perhaps in several steps of an epoch, until all rows are drawn from.

        Raises:
            ValueError: training rows cannot be cut, or not to so few tokens; an order of other rows.
        """
        if course.length is not None or course.order is not None:
            check_text_course(course, self.dataset("train"))
        self._course = course

    def prepare_data(self) -> None:
        """Download, repair and tokenise into the cache: on one process; the others read it in `setup`."""
        self.setup(self.trainer.state.fn.value if self.trainer and self.trainer.state.fn else "fit")

    def setup(self, stage: str) -> None:
        """Read what a stage needs; what was read before is kept."""
        check_trainer(self.trainer)
        for name in (self._predicted(),) if stage == "predict" else STAGES[stage]:
            if name in self.splits(name):
                self.dataset(name)
        # Packing a batch takes microseconds: workers would cost more than they do.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")

    def splits(self, name: str) -> dict[str, Any]:
        """The rows of all splits, of which `name` is wanted; `predict` is the file of `predict_source`."""
        if name == "predict" and "predict" not in self._rows:
            assert self.predict_source is not None
            self._rows["predict"] = self.read_unlabelled(self.predict_source)
        elif name != "predict" and not set(self._rows) - {"predict"}:
            self._rows.update(self.read())
        return self._rows

    def dataset(self, name: str) -> TokenisedTexts:
        """The tokenised rows of `train`, `validation`, `test` or `predict`.

        Raises:
            ValueError: there is no such split.
        """
        if name not in self._tokenised:
            splits = self.splits(name)
            if name not in splits:
                raise ValueError(
                    f"There is no {name} split: the source has {', '.join(splits)}, and {name}_fraction is 0."
                )
            self._tokenised[name] = self.tokenised(splits[name])
            self._tokenised[name].task = self.task
        return self._tokenised[name]

    def train_dataloader(self) -> DataLoader[Any]:
        """Micro-batches of packed sequences, in optimizer steps that all ranks share; resumable anywhere."""
        dataset, sampler = self.dataset("train"), self.train_sampler()
        loader = ResumableLoader(dataset, sampler=sampler, **loader_options(self.num_workers, self.seed))
        if self.trainer is not None:
            check_limit(self.trainer, len(loader))
            loader.position = self._place
        return loader

    def train_sampler(self) -> TokenBudgetSampler:
        """The optimizer steps of the training split."""
        dataset = self.dataset("train")
        return TokenBudgetSampler(
            dataset.lengths,
            self.batch_size,
            self.max_tokens,
            *self.shares(),
            self.seed,
            draw=self.drawn(dataset),
        )

    def shares(self) -> tuple[int, int, int]:
        """How many ranks there are, which this is, and how many micro-batches of a step each has."""
        return (*self._ranks(), self.trainer.accumulate_grad_batches if self.trainer else 1)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """The validation split by length, every row once over all ranks; nothing where there is none."""
        return self.evaluation_loader("validation") if self.has_validation else []

    def test_dataloader(self) -> DataLoader[Any]:
        """The test split by length, every row once over all ranks."""
        return self.evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """The rows of `predict_source`, else of the test split, by length; `index` tells the row."""
        return self.evaluation_loader(self._predicted())

    def evaluation_loader(self, name: str) -> DataLoader[Any]:
        """A split by length, every row once over all ranks; see `dataset` for its name."""
        dataset = self.dataset(name)
        sampler = SortedBatchSampler(dataset.lengths, self.evaluation_max_tokens, *self._ranks())
        return DataLoader(dataset, sampler=sampler, **loader_options(self.num_workers, self.seed))

    def predicted_rows(self) -> Any:
        """The rows that are predicted, in their order."""
        name = self._predicted()
        return self.splits(name)[name]

    def state_dict(self) -> dict[str, Any]:
        """Where in the data the training is, as plain numbers."""
        if self.trainer is None or self.trainer.fit_loop.max_batches == float("inf"):
            return {}
        return self._position.state_dict(self.trainer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint was saved."""
        self._position.load_state_dict(state_dict)

    def _place(self) -> tuple[int, int, int, Course] | None:
        """Epoch, optimizer steps taken in it, steps taken in all, and the course; None: no batch is left."""
        assert self.trainer is not None
        position = self._position.at_first_batch(self.trainer)
        return None if position is None else (*position, self.trainer.global_step, self._course)

    def _predicted(self) -> str:
        return "test" if self.predict_source is None else "predict"

    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

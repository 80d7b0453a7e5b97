"""Pretraining examples of a token store: masked texts, with or without a second sentence task."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from bertlab.corpus.held_out import hold_out
from bertlab.corpus.masking import MODES, NO_LIMIT, TOKEN, MaskRules
from bertlab.corpus.packed_examples import special_tokens
from bertlab.corpus.pairs import TASKS, PairRules
from bertlab.corpus.token_store import TokenStore
from bertlab.corpus.word_starts import count_words, word_starts
from bertlab.data.loader import ResumableLoader, check_trainer, loader_options
from bertlab.data.masked_batches import MaskedBatches
from bertlab.data.pretraining_options import check_course, check_options
from bertlab.data.stream_position import StreamPosition
from bertlab.data.tokenised import load_tokenizer
from bertlab.data.training_examples import TrainingExamples
from bertlab.data.validation_examples import ValidationExamples
from bertlab.interfaces import Course, Growth
from bertlab.samplers.phases import Phase, StepSchedule, check_phases, streams_of
from bertlab.samplers.sorted_batches import SortedBatchSampler
from bertlab.samplers.step_parts import StepPartSampler

SentenceTask = Literal["next_sentence", "sentence_order", "none"]
Masking = Literal["token", "whole_word", "span"]
EVALUATION_RATE = 0.15  # of masks in validation, whatever training's is: losses of all runs compare


class PretrainingData(LightningDataModule):
    """Examples drawn on the fly from a token store: each a function of (seed, epoch, index).

    What is trained on next follows from one number, the samples consumed, whatever the workers and ranks.
    What the trainer calls an epoch is a number of optimizer steps, that of the first pass over the corpus with the
    first phase's batch size; passes themselves go on from one to the next, also in the middle of a step.

    Args:
        store: folder of a token store, made by `bertlab corpus`.
        sentence_task: `next_sentence` (Devlin et al. 2019), `sentence_order` (Lan et al. 2020), or `none`: whole
            sentences in a row from one document (Liu et al. 2019, DOC-SENTENCES).
        phases: lengths of sequences over the training, e.g. `[{length: 128, fraction: 0.9}, {length: 512, fraction:
            0.1}]`; where the length changes, a new pass over the corpus begins. Null: 128 throughout.
        batch_size: sequences of an optimizer step, over all ranks and accumulated micro-batches.
        batch_tokens: instead, tokens of it: as many sequences as fit at their phase's length.
        batch_warmup_fraction: share of the optimizer steps over which the batch grows linearly.
        batch_warmup_start: sequences of the first of those steps.
        masking: `token`, `whole_word` (pieces of a word together), or `span` (Joshi et al. 2020).
        mask_rate: share of the tokens that is predicted in training, special ones counted; validation has 0.15.
        mask_share: of the predicted tokens that become [MASK], in training.
        random_share: of them that become a random token, in training; the rest stays.
        max_predictions: predicted tokens of a sequence at most; null: as the rate says.
        short_fraction: probability that a document is cut into shorter pieces, of a length drawn for it.
        validation_fraction: share of the documents that is held out; 0: no validation.
        validation_length: tokens of a validation sequence at most; null: that of the first phase.
        max_validation_examples: validate on so many at most, always the same; null: one pass over the held-out text.
        evaluation_max_tokens: tokens of a validation batch at most.
        split_seed: of the choice of held-out documents, and of validation examples and their masks.
        seed: of training examples, order and masks; None: that of the run where there is one, else 0.
        num_workers: processes that make batches; 0: a thread, which is enough for most models.
    """

    def __init__(
        self,
        store: str,
        sentence_task: SentenceTask = "next_sentence",
        phases: list[Phase] | None = None,
        batch_size: int | None = 256,
        batch_tokens: int | None = None,
        batch_warmup_fraction: float = 0.0,
        batch_warmup_start: int = 32,
        masking: Masking = "token",
        mask_rate: float = 0.15,
        mask_share: float = 0.8,
        random_share: float = 0.1,
        max_predictions: int | None = None,
        short_fraction: float = 0.1,
        validation_fraction: float = 0.01,
        validation_length: int | None = None,
        max_validation_examples: int | None = 10_000,
        evaluation_max_tokens: int = 8192,
        split_seed: int = 0,
        seed: int | None = None,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.phases = [Phase()] if phases is None else list(phases)
        check_phases(self.phases)
        self.validation_length = validation_length or self.phases[0].length
        self.batch_size, self.batch_tokens = (None if batch_tokens else batch_size), batch_tokens
        self.batch_warmup_fraction, self.batch_warmup_start = batch_warmup_fraction, batch_warmup_start
        self.sentence_task: SentenceTask = sentence_task
        self.masking: Masking = masking
        self.mask_rate, self.mask_share, self.random_share = mask_rate, mask_share, random_share
        self.max_predictions, self.short_fraction = max_predictions, short_fraction
        self.validation_fraction, self.max_validation_examples = validation_fraction, max_validation_examples
        self.evaluation_max_tokens, self.split_seed = evaluation_max_tokens, split_seed
        self.seed, self.num_workers = seed or 0, num_workers
        self._store = store
        check_options(self)
        self._sizes = [self._size_of(phase) for phase in self.phases]
        self._course = Course()
        self._position = StreamPosition(self._schedule)

    @cached_property
    def store(self) -> TokenStore:
        """The token store, opened on first use.

        Raises:
            ValueError: there is none, or it is damaged, or of a newer format.
        """
        try:
            return TokenStore.open(self._store)
        except (OSError, ValueError) as error:
            raise ValueError(f"data.init_args.store: {error}") from error

    @cached_property
    def tokenizer(self) -> Any:
        """The fast tokenizer of transformers that made the store."""
        return load_tokenizer(str(self.store.tokenizer_folder))

    @property
    def vocabulary_size(self) -> int:
        """V of the store."""
        return self.store.vocabulary_size

    @property
    def has_sentence_task(self) -> bool:
        """Whether batches have sentence labels."""
        return self.sentence_task != "none"

    @cached_property
    def documents(self) -> dict[str, npt.NDArray[np.int64]]:
        """The documents of `train` and of `validation`.

        Raises:
            ValueError: there are too few for the sentence task.
        """
        count = len(self.store.document_starts) - 1
        least = 2 if self.sentence_task == "next_sentence" else 1
        train, held = hold_out(count, self.validation_fraction, self.split_seed, least)
        return {"train": train, "validation": held}

    @cached_property
    def examples_per_epoch(self) -> int:
        """Examples of the first pass over the training documents at the first phase's length; later ones differ."""
        return self.training_examples.stream(0).examples_per_epoch()

    @cached_property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of what the trainer calls an epoch."""
        return max(1, round(self.examples_per_epoch / self._sizes[0]))

    @property
    def course_parts(self) -> frozenset[str]:
        """What strategies can change from step to step."""
        return frozenset({"length", "mask_rate", "batch_size"})

    @property
    def longest_sequence(self) -> int:
        """Tokens of a sequence of the phase with the longest ones, at most."""
        return max(phase.length for phase in self.phases)

    @property
    def full_batch(self) -> int:
        """Sequences of an optimizer step of the phase with the largest batch."""
        return max(self._sizes)

    def follow(self, course: Course) -> None:
        """Change the training data from step to step; see `bertlab.interfaces.FollowsCourse`.

        Samples are counted as if they were whole: what is cut off a sequence is not trained on.

        Raises:
            ValueError: the options of this data module stand against it.
        """
        check_course(self, course)
        self._course = course
        self._position.renew()

    def tokens_and_words(self, split: Literal["train", "validation"]) -> tuple[int, int | None]:
        """Tokens and words of a split's text, special tokens left out; words None where pieces do not tell them.

        A loss a token becomes one a word, comparable across vocabularies, by the factor tokens / words.
        """
        starts = self._word_starts
        return count_words(
            self.store.tokens,
            self.store.sentence_starts,
            self.store.document_starts,
            self.documents[split],
            starts,
        )

    @cached_property
    def training_examples(self) -> TrainingExamples:
        """What training draws from: one stream of examples for each run of phases with one length."""
        streams = dict(zip(streams_of(self.phases), self.phases, strict=True))
        rules = [self._pair_rules(phase.length) for phase in streams.values()]
        limit = self.max_predictions or NO_LIMIT
        shares = (self.mask_share, self.random_share)
        batches = self._batches(MODES[self.masking], self.mask_rate, limit, *shares)
        return TrainingExamples(batches, self.documents["train"], rules, self.seed)

    @cached_property
    def validation_examples(self) -> ValidationExamples:
        """One pass over the held-out documents, tokens masked one by one, at a rate of 0.15, 80/10/10."""
        batches = self._batches(TOKEN, EVALUATION_RATE, NO_LIMIT, 0.8, 0.1)
        rules = self._pair_rules(self.validation_length)
        held = self.documents["validation"]
        return ValidationExamples(batches, held, rules, self.split_seed, self.max_validation_examples)

    def setup(self, stage: str) -> None:
        """Open the store, and check that it, the trainer and the encoder fit.

        Raises:
            ValueError: they do not; the message names the key.
        """
        if stage not in {"fit", "validate"}:
            raise ValueError(f"data.init_args: PretrainingData can fit and validate, not {stage}.")
        check_trainer(self.trainer)
        self._check_positions()
        if stage == "fit":
            _ = self.training_examples
        if self.validation_fraction > 0.0:
            _ = self.validation_examples
        # Lightning recommends workers wherever there are more cores; a thread already works ahead.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")

    def train_dataloader(self) -> DataLoader[Any]:
        """Micro-batches of optimizer steps that all ranks share; resumable anywhere."""
        accumulated = self.trainer.accumulate_grad_batches if self.trainer else 1
        steps = self.steps_per_epoch
        sampler = StepPartSampler(steps, *self._ranks(), accumulated)
        loader = ResumableLoader(
            self.training_examples, sampler=sampler, **loader_options(self.num_workers, self.seed)
        )
        loader.batches_ahead = 2
        if self.trainer is not None:
            loader.position = self._place
        else:
            sampler.resume(self._schedule(steps), 0, steps)
        return loader

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """The validation examples by length, each once over all ranks; nothing where none are held out."""
        if self.validation_fraction == 0.0:
            return []
        examples = self.validation_examples
        sampler = SortedBatchSampler(examples.lengths, self.evaluation_max_tokens, *self._ranks())
        return DataLoader(examples, sampler=sampler, **loader_options(self.num_workers, self.seed))

    def state_dict(self) -> dict[str, Any]:
        """The samples consumed, of all ranks: one number."""
        if self.trainer is None or self.trainer.fit_loop.max_batches == float("inf"):
            return {}
        return self._position.state_dict(self.trainer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint was saved."""
        self._position.load_state_dict(state_dict)

    @cached_property
    def _word_starts(self) -> npt.NDArray[np.bool_] | None:
        try:
            return word_starts(self.tokenizer, self.vocabulary_size)
        except ValueError:
            if self.masking != "token":
                raise
            return None

    def _batches(
        self, mode: int, rate: float, limit: int, mask_share: float, random_share: float
    ) -> MaskedBatches:
        ids = {name: getattr(self.tokenizer, f"{name}_token_id") for name in ("cls", "sep", "mask")}
        missing = [name for name, number in ids.items() if number is None]
        if missing:
            raise ValueError(
                f"data.init_args.store: the tokenizer in {self._store} has no {' and no '.join(missing)} token"
            )
        starts = self._word_starts if mode != TOKEN else None
        rules = MaskRules(mode, rate, limit, mask_share, random_share, ids["mask"], self.vocabulary_size)
        starts = np.zeros(0, dtype=np.bool_) if starts is None else starts
        return MaskedBatches(self.store, ids["cls"], ids["sep"], TASKS[self.sentence_task], rules, starts)

    def _pair_rules(self, length: int) -> PairRules:
        task = TASKS[self.sentence_task]
        return PairRules(task, length - special_tokens(task), self.short_fraction)

    def _size_of(self, phase: Phase) -> int:
        if phase.batch_size is not None:
            return phase.batch_size
        if self.batch_tokens is not None:
            return max(1, self.batch_tokens // phase.length)
        assert self.batch_size is not None
        return self.batch_size

    def _schedule(self, total_steps: int) -> StepSchedule:
        growth = self._course.batch_size
        if growth is None:
            growth = Growth(self.batch_warmup_start, round(self.batch_warmup_fraction * total_steps))
        return StepSchedule(self.phases, self._sizes, total_steps, growth.steps, growth.start)

    def _place(self) -> tuple[Any, ...] | None:
        """What the sampler needs to go on; None: no batch is left."""
        assert self.trainer is not None
        position = self._position.at_first_batch(self.trainer)
        return None if position is None else (*position, self._course)

    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def _check_positions(self) -> None:
        encoder = getattr(self.trainer and self.trainer.lightning_module, "encoder", None)
        limit = getattr(encoder, "max_length", None)
        lengths = {
            "phases": max(phase.length for phase in self.phases),
            "validation_length": self.validation_length,
        }
        for key, length in lengths.items():
            if limit is not None and length > limit:
                raise ValueError(
                    f"data.init_args.{key}: a length of {length} tokens is more than the {limit} positions of the "
                    "encoder (model.init_args.encoder). Shorten it, or take an encoder with more positions."
                )

"""Pretraining examples of a token store: masked texts, with or without a second sentence task."""

from __future__ import annotations

import math
import warnings
from functools import cached_property
from typing import Any, Literal

from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader

from bertlab.data.loader import ResumableLoader, check_limit, check_trainer, loader_options
from bertlab.data.pretraining_options import check_course, check_options, check_positions
from bertlab.data.store_vocabulary import (
    CONTENT_HASH,
    HELD_OUT,
    STREAM,
    TOKENIZER_HASH,
    check_encoder_vocabulary,
    check_same_arguments,
    check_same_content,
    check_same_vocabulary,
)
from bertlab.data.stored_examples import ExampleOptions, StoredExamples
from bertlab.data.stream_position import StreamPosition
from bertlab.interfaces import Course, Growth
from bertlab.samplers.phases import Phase, StepSchedule, batch_sizes_of, check_phases, streams_of
from bertlab.samplers.sorted_batches import SortedBatchSampler
from bertlab.samplers.step_parts import StepPartSampler

PASSES = "passes"  # key of the state
LENGTHS = "phases: the lengths"
SentenceTask = Literal["next_sentence", "sentence_order", "none"]
Masking = Literal["token", "whole_word", "span"]


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
        validation_masking: `token`, or `whole_word`: pieces of a word together, for a `word_perplexity` that compares
            vocabularies.
        max_validation_examples: validate on so many at most, always the same; null: one pass over the held-out text.
        evaluation_max_tokens: tokens of a validation batch at most.
        split_seed: of the choice of held-out documents, and of validation examples and their masks.
        seed: of training examples, order and masks; None: that of the run where there is one, else 0.
        num_workers: processes that make batches; 0: a thread, which is enough for most models.

    Raises:
        ValueError: an argument is out of its range, or two clash; the message names the YAML key.
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
        validation_masking: Literal["token", "whole_word"] = "token",
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
        self.validation_masking = validation_masking
        self.evaluation_max_tokens, self.split_seed = evaluation_max_tokens, split_seed
        self.seed, self.num_workers = seed or 0, num_workers
        check_options(self)
        self.examples = StoredExamples(store, self._example_options())
        self._sizes = batch_sizes_of(self.phases, self.batch_size, self.batch_tokens)
        self._course = Course()
        self._position = StreamPosition(self._schedule)

    @property
    def tokenizer(self) -> Any:
        """The fast tokenizer of transformers that made the store."""
        return self.examples.tokenizer

    @property
    def vocabulary_size(self) -> int:
        """V of the store."""
        return self.examples.store.vocabulary_size

    @property
    def has_sentence_task(self) -> bool:
        """Whether batches have sentence labels."""
        return self.sentence_task != "none"

    @cached_property
    def examples_per_epoch(self) -> int:
        """Examples of the first pass over the training documents at the first phase's length; later ones differ."""
        return self.examples.training.stream(0).examples_per_epoch()

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
        steps = 0 if self.trainer is None else self.trainer.estimated_stepping_batches
        check_course(self, course, int(steps) if math.isfinite(steps) else 0)
        self._course = course
        self._position.renew()

    def tokens_and_words(self, split: Literal["train", "validation"]) -> tuple[int, int | None]:
        """See `StoredExamples.tokens_and_words`."""
        return self.examples.tokens_and_words(split)

    def check_tokenizer(self, tokenizer: Any, source: str) -> None:
        """Refuse an encoder of another vocabulary than the store's; see `store_vocabulary.check_encoder_vocabulary`."""
        check_encoder_vocabulary(self.examples.store, tokenizer, source)

    def setup(self, stage: str) -> None:
        """Open the store, and check that it, the trainer and the encoder fit.

        Raises:
            ValueError: they do not; the message names the key.
        """
        if stage not in {"fit", "validate"}:
            raise ValueError(f"data.init_args: PretrainingData can fit and validate, not {stage}.")
        check_trainer(self.trainer)
        check_positions(self, getattr(self.trainer and self.trainer.lightning_module, "encoder", None))
        if stage == "fit":
            _ = self.examples.training
        if self.validation_fraction > 0.0:
            _ = self.examples.validation
        # Lightning recommends workers wherever there are more cores; a thread already works ahead.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")

    def train_dataloader(self) -> DataLoader[Any]:
        """Micro-batches of optimizer steps that all ranks share; resumable anywhere."""
        accumulated = self.trainer.accumulate_grad_batches if self.trainer else 1
        steps = self.steps_per_epoch
        sampler = StepPartSampler(steps, *self._ranks(), accumulated)
        loader = ResumableLoader(
            self.examples.training, sampler=sampler, **loader_options(self.num_workers, self.seed)
        )
        loader.batches_ahead = 2
        if self.trainer is not None:
            check_limit(self.trainer, len(loader))
            loader.position = self._place
        else:
            sampler.resume(self._schedule(steps), 0, steps)
        return loader

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """The validation examples by length, each once over all ranks; nothing where none are held out."""
        if self.validation_fraction == 0.0:
            return []
        examples = self.examples.validation
        sampler = SortedBatchSampler(examples.lengths, self.evaluation_max_tokens, *self._ranks())
        return DataLoader(examples, sampler=sampler, **loader_options(self.num_workers, self.seed))

    def state_dict(self) -> dict[str, Any]:
        """The samples consumed, of all ranks: one number; of what store and arguments; and the passes before them."""
        if self.trainer is None or self.trainer.fit_loop.max_batches == float("inf"):
            return {}
        store = self.examples.store
        state = self._position.state_dict(self.trainer)
        state |= {TOKENIZER_HASH: store.tokenizer_hash, CONTENT_HASH: store.content_hash}
        taken = self._position.taken(self.trainer)
        state |= self._arguments(len(taken))
        passes = self.examples.training.passes_before(taken)
        return state | ({PASSES: passes} if passes else {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint was saved.

        Raises:
            ValueError: the store was of another vocabulary then; or, where training goes on, held other text, or the
                arguments that held-out texts and examples follow from were others.
        """
        check_same_vocabulary(self.examples.store, state_dict)
        if self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING:
            check_same_content(self.examples.store, state_dict)
            begun = state_dict.get(STREAM, {}).get(LENGTHS, [])
            check_same_arguments(self._arguments(len(begun)), state_dict)
        self._position.load_state_dict(state_dict)
        self.examples.remember(state_dict.get(PASSES, {}))

    def _arguments(self, begun: int) -> dict[str, dict[str, Any]]:
        """What held-out texts and the training stream follow from, beside the store; of so many lengths."""
        return {
            HELD_OUT: {"validation_fraction": self.validation_fraction, "split_seed": self.split_seed},
            STREAM: {
                "seed": self.seed,
                "sentence_task": self.sentence_task,
                "short_fraction": self.short_fraction,
                LENGTHS: self.examples.options.lengths[:begun],
            },
        }

    def _example_options(self) -> ExampleOptions:
        return ExampleOptions(
            self.sentence_task,
            [phase.length for phase in dict(zip(streams_of(self.phases), self.phases, strict=True)).values()],
            self.masking,
            self.mask_rate,
            self.mask_share,
            self.random_share,
            self.max_predictions,
            self.short_fraction,
            self.validation_fraction,
            self.validation_length,
            self.validation_masking,
            self.max_validation_examples,
            self.split_seed,
            self.seed,
        )

    def _schedule(self, total_steps: int) -> StepSchedule:
        growth = self._course.batch_size
        if growth is None:
            growth = Growth(self.batch_warmup_start, round(self.batch_warmup_fraction * total_steps))
        schedule = StepSchedule(self.phases, self._sizes, total_steps, growth.steps, growth.start)
        for number, (phase, steps) in enumerate(zip(self.phases, schedule.steps_of_phases, strict=True)):
            if steps == 0:
                rank_zero_warn(
                    f"data.init_args.phases[{number}]: a fraction of {phase.fraction:g} is none of the {total_steps} "
                    f"optimizer steps of this training: nothing is trained at {phase.length} tokens there"
                )
        return schedule

    def _place(self) -> tuple[Any, ...] | None:
        """What the sampler needs to go on; None: no batch is left."""
        assert self.trainer is not None
        position = self._position.at_first_batch(self.trainer)
        return None if position is None else (*position, self._course)

    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

"""What the parts of bertlab know of each other: the shape legend, the batch, the blocks, the protocols.

Shape legend, used by every docstring:

- B batch, T tokens of a padded sequence, D hidden size, V vocabulary size, C labels (classes)
- packed: N tokens of all sequences of a batch one after another, S sequences
- G sequences of a whole optimizer step (all micro-batches of all ranks together)
- W words with a tag
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

#: Where a checkpoint keeps the weights that training goes on from, if its `state_dict` holds others (an average).
TRAINED_WEIGHTS = "bertlab_trained_weights"


@dataclass(slots=True)
class TextBatch:
    """One micro-batch of token sequences, packed: sequences stand one after another, without padding.

    Sequences are in order of descending length, so that neighbours are alike in length (attention works on
    runs of them). `index` tells which row of the split each one is.

    Attributes:
        input_ids: (N,) int64 word-piece ids.
        token_type_ids: (N,) int64 segment of each token (0, or 1 for the second text of a pair).
        lengths: (S,) int64 tokens of each sequence, on the CPU whatever the device of the rest.
        index: (S,) int64 row of each sequence in its split.
        labels: (S,) int64 class, (S, C) float multi-hot, or (S,) float target; None where there are none.
        step_labels: (G,), (G, C) or (G,): the labels of the whole optimizer step; None outside training.
            A loss that normalises by them gives the same gradient for one batch, many micro-batches and
            many ranks.
        micro_batches: how many micro-batches, over all ranks, the optimizer step is split into.
        task: name of the task that it is of, where there are several.
    """

    input_ids: Tensor
    token_type_ids: Tensor
    lengths: Tensor
    index: Tensor
    labels: Tensor | None = None
    step_labels: Tensor | None = None
    micro_batches: int = 1
    task: str | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """A copy on `device`; `lengths` stays on the CPU, where its values are read without a sync."""
        moved = {
            name: value.to(device, non_blocking=non_blocking)
            for name, value in self._tensors()
            if name != "lengths"
        }
        return replace(self, **moved)

    def pin_memory(self) -> Self:
        """A copy in page-locked memory (called by `torch.utils.data.DataLoader(pin_memory=True)`)."""
        return replace(self, **{name: value.pin_memory() for name, value in self._tensors()})

    @property
    def size(self) -> int:
        """S, the number of sequences."""
        return self.lengths.shape[0]

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for known in fields(self):
            value = getattr(self, known.name)
            if isinstance(value, Tensor):
                yield known.name, value


@dataclass(slots=True)
class PretrainingBatch(TextBatch):
    """One micro-batch of pretraining examples, packed as a `TextBatch`: input_ids hold the masked texts.

    M counts masked positions. A loss that is normalised by what the whole optimizer step holds gives the same
    gradient for one batch, many micro-batches and many ranks.

    Attributes:
        masked_positions: (M,) int64 places in the packed batch that are to be predicted, ascending; M may be 0.
        masked_labels: (M,) int64 the ids that stood there.
        sentence_labels: (S,) int64 of the sentence task: 1 where the second segment is random (next sentence
            prediction) or the two are swapped (sentence order prediction), else 0; None without such a task.
        step_masked: masked positions of the whole optimizer step.
        step_sequences: sequences of the whole optimizer step.
    """

    masked_positions: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    masked_labels: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    sentence_labels: Tensor | None = None
    step_masked: int = 0
    step_sequences: int = 0


@dataclass(slots=True)
class WordBatch(TextBatch):
    """One micro-batch of sentences whose words have tags, packed as a `TextBatch`.

    A sequence is a sentence, or a window of a long one; every word has its tag in one window only. Tags stand at the
    first piece of a word (in training, if asked for, at all of its pieces).

    Attributes:
        places: (W,) int64 places in the packed batch at which a tag stands, ascending.
        words: (W,) int64 number of the word in its split.
        sentences: (W,) int64 number of the sentence in its split.
        labels: (W,) int64 class of each place; None where there are none.
        step_labels: (G,) the labels of all places of the whole optimizer step; None outside training.
    """

    places: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    words: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    sentences: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))


@dataclass(slots=True)
class MultiTaskBatch:
    """One micro-batch of an optimizer step that is of several tasks, or of one of several.

    Attributes:
        parts: the micro-batch of each task, which it names.
    """

    parts: tuple[TextBatch, ...]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """A copy on `device`."""
        return replace(self, parts=tuple(part.to(device, non_blocking) for part in self.parts))

    def pin_memory(self) -> Self:
        """A copy in page-locked memory."""
        return replace(self, parts=tuple(part.pin_memory() for part in self.parts))

    @property
    def micro_batches(self) -> int:
        """How many micro-batches, over all ranks, the optimizer step is split into."""
        return self.parts[0].micro_batches


class EncoderOutput(NamedTuple):
    """What an encoder makes of a `TextBatch`.

    Attributes:
        hidden: (N, D) last hidden state of every token; (0, D) where only first tokens were asked for.
        first: (S, D) last hidden state of the first token of each sequence.
        pooled: (S, D) output of the encoder's own pooler, None where it has none.
    """

    hidden: Tensor
    first: Tensor
    pooled: Tensor | None


class StepData(NamedTuple):
    """What an optimizer step takes, known before it is taken.

    Attributes:
        quantities: of the whole step, over all ranks and micro-batches: `sequences`; `tokens`; where the data has them
            `length`, tokens of a sequence at most, `mask_rate`, and `easiest_share`, of the rows that it is drawn from.
            Others may follow: whoever shows them shows all.
        batches: makes the micro-batches of this rank.
    """

    quantities: Mapping[str, float]
    batches: Callable[[], list[Any]]


class Growth(NamedTuple):
    """A batch that grows.

    Attributes:
        start: sequences of the first optimizer step.
        steps: optimizer steps after which it has its full size.
    """

    start: int
    steps: int

    def size(self, step: int, full: int) -> int:
        """Sequences of a step that would have `full` of them, `step` optimizer steps after training began."""
        if step >= self.steps or self.start >= full:
            return full
        return self.start + (full - self.start) * step // self.steps


class Order(NamedTuple):
    """Easy rows first.

    Attributes:
        ranks: (n,) of each training row, the share of the rows that are as easy or easier, in (0, 1].
        share: from optimizer steps taken to the share of the rows, the easiest, that the next step draws from.
    """

    ranks: npt.NDArray[np.float64]
    share: Callable[[int], float]


@dataclass(frozen=True)
class Course:
    """How the training data changes from one optimizer step to the next; validation data never does.

    Everything is a function of the optimizer steps taken before a step, handed over before training begins: so what is
    drawn ahead, by any number of workers, on any rank, or after a resume, is what belongs to the step that it is for.

    Attributes:
        length: tokens of a sequence at most, special ones included, by steps taken; None: as the data has it.
        mask_rate: share of the tokens that is predicted, in (0, 1), by steps taken.
        batch_size: how the batch grows.
        order: which rows are drawn from.
    """

    length: Callable[[int], int] | None = None
    mask_rate: Callable[[int], float] | None = None
    batch_size: Growth | None = None
    order: Order | None = None

    @property
    def parts(self) -> dict[str, Any]:
        """What it changes, by attribute."""
        found = {known.name: getattr(self, known.name) for known in fields(self)}
        return {name: value for name, value in found.items() if value is not None}

    def values(self, step: int) -> dict[str, float]:
        """What holds after so many optimizer steps, as far as the steps alone tell."""
        found = {"length": self.length, "mask_rate": self.mask_rate}
        known = {name: float(curve(step)) for name, curve in found.items() if curve is not None}
        return known if self.order is None else known | {"easiest_share": float(self.order.share(step))}


class Trunk(NamedTuple):
    """What the lowest blocks of a model have made of a batch; the others go on from it.

    Attributes:
        blocks: how many blocks, from the embeddings up.
        values: (N, D), a vector for each token, or (S, D), one for each sequence.
    """

    blocks: int
    values: Tensor


class PoissonDraw(NamedTuple):
    """How the rows of optimizer steps are drawn: each by a coin of its own.

    Attributes:
        rate: the probability of a row to be in a step, in (0, 1].
        rows: of the training split.
    """

    rate: float
    rows: int


@dataclass(frozen=True, eq=False)
class Block:
    """A part of a model that is frozen, trained and given a rate as one: an object, equal only to itself.

    Attributes:
        name: "embeddings", "layer.0" … "layer.11", "pooler", "head".
        modules: the modules that belong to it and to no other block.
        depth: distance from the top: 0 for the head, growing towards the embeddings.
        initializer: draws what a module holds itself from torch's generator, as the model's configuration says; None:
            nobody knows how.
    """

    name: str
    modules: tuple[nn.Module, ...]
    depth: int
    initializer: Callable[[nn.Module], None] | None = None

    def draw_anew(self, generator: torch.Generator) -> None:
        """Give the block fresh weights, as if it had never been trained.

        Args:
            generator: decides about them; of the CPU, as the weights are while training is set up. Torch's own
                generators are left as they are.

        Raises:
            ValueError: nobody knows how the block is drawn.
        """
        if self.initializer is None:
            raise ValueError(
                f"block {self.name!r} does not know how it is initialised: give Block an initializer"
            )
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would reach the generators of all GPUs too.
            torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            for module in self.modules:
                module.apply(self.initializer)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Every parameter of the block once, told apart by identity."""
        seen: set[int] = set()
        for module in self.modules:
            for parameter in module.parameters():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield parameter

    def train(self, mode: bool = True) -> None:
        """Set train mode (dropout on) or evaluation mode (dropout off) for the whole block."""
        for module in self.modules:
            module.train(mode)

    def __repr__(self) -> str:
        """Short: blocks appear in error messages."""
        return f"Block({self.name!r})"


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
class FixedRows(Protocol):
    """The rows of a split, any of which can be had at any time."""

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(n,) tokens of each row."""
        ...

    def batch(self, rows: npt.NDArray[np.int64]) -> TextBatch:
        """Some rows, in order of descending length."""
        ...


@runtime_checkable
class HasFixedRows(Protocol):
    """A data module whose rows can be had beside the batches of its loaders."""

    def dataset(self, name: str) -> FixedRows:
        """The rows of "train" or "validation", numbered as `TextBatch.index` numbers them."""
        ...


@runtime_checkable
class DrawsPoisson(Protocol):
    """A data module that can draw each row for each optimizer step independently of all others."""

    def draw_poisson(self, entropy: int | None) -> PoissonDraw:
        """Draw so from the next training loader on; called before it is made.

        Args:
            entropy: decides about the draws; None: the seed does.

        Raises:
            ValueError: options that make a row's part in a step depend on other rows.
        """
        ...


@runtime_checkable
class FollowsCourse(Protocol):
    """A data module whose training data can change from one optimizer step to the next."""

    @property
    def course_parts(self) -> frozenset[str]:
        """What of a `Course` it can follow, by attribute."""
        ...

    @property
    def longest_sequence(self) -> int:
        """Tokens of a training sequence at most, special ones included."""
        ...

    @property
    def full_batch(self) -> int:
        """Sequences of a whole optimizer step, over all ranks and micro-batches; of several sizes the largest."""
        ...

    def follow(self, course: Course) -> None:
        """Follow a course from the next iteration of the training loader on; `Course()` changes nothing.

        Raises:
            ValueError: it cannot be followed; the message names the key of the data module that stands against it.
        """
        ...


@runtime_checkable
class HasRowScores(Protocol):
    """A data module that finds its training rows in a table of the user's."""

    def row_scores(self, path: str) -> npt.NDArray[np.float64]:
        """(n,) the score of each training row, from a table with columns `id` and `score`.

        Raises:
            ValueError: there is no such table, the rows have no ids, or one has no score.
        """
        ...


@runtime_checkable
class HasClassWeights(Protocol):
    """A task whose training loss takes a weight for each class."""

    def set_class_weights(self, weights: Tensor | None) -> None:
        """Take (C,) non-negative weights for the training loss from now on; None: all one."""
        ...


@runtime_checkable
class HasClassCounts(Protocol):
    """A data module that knows the classes of its training split."""

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The names of the C classes in the order of their ids; None for regression."""
        ...

    def class_counts(self) -> Tensor:
        """(C,) int64: rows of the training split of each class (of multi-label data: positive rows)."""
        ...


@runtime_checkable
class HasConfusionMatrix(Protocol):
    """A task that counts its confusion matrix while it validates or tests."""

    def confusion_matrix(self) -> Tensor | None:
        """(C, C) int64, rows are true classes; of the evaluation that ended last, None before any."""
        ...


@runtime_checkable
class ShowsWork(Protocol):
    """A progress bar that can show work beside the batches."""

    def show_work(self, what: str, done: int, total: int) -> None:
        """Show how much is done; called with done = total at the end."""
        ...


@runtime_checkable
class RecordsEvents(Protocol):
    """A callback or logger that keeps what strategies change: the timeline, Weights & Biases."""

    def record_event(self, step: int, epoch: int, strategy: str, what: str, facts: Mapping[str, Any]) -> None:
        """Keep one event.

        Args:
            step: optimizer steps taken before it.
            epoch: epochs finished before it.
            strategy: class name of the strategy that acts.
            what: what it did, a short word: "stage", "trainable", "restart", …
            facts: plain values (numbers, strings, lists of them).
        """
        ...


@runtime_checkable
class ForeseesSteps(Protocol):
    """A training loader that tells what a step takes, without being iterated."""

    def foresee(self) -> StepData | None:
        """What the optimizer step takes that the trainer stands before; None: there is none left."""
        ...

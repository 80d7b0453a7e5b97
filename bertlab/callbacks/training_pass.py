"""TrainingPass: the training loss of a micro-batch, which strategies compute once more, otherwise, or add to."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from bertlab.callbacks.random_state import RandomState
from bertlab.interfaces import HasParts, HasTasks, HasTrunk, HasWordEmbedding

#: From a parameter, and the value that it has so far, to the value that the model is to see in its place.
WeightChange = Callable[[nn.Parameter, Tensor], Tensor]

#: From the (N, E) vectors of the tokens, and the (N,) number of the sequence that each is in, to other vectors.
EmbeddingChange = Callable[[Tensor, Tensor], Tensor]

#: What a strategy makes of the training loss of a micro-batch.
LossWrapper = Callable[["TrainingPass"], Tensor]


class TrainingPass:
    """The training step of one micro-batch as the strategy at one place of a nest sees it.

    `loss()` runs what lies within: the strategies that are nested deeper, then the task's own training loss. It can
    be called several times, and each time with other weights or other embeddings; the model itself is left as it
    is. Changes of nested strategies add up, the outermost first.

    To hold one graph at a time, take the gradients of a pass with `gradients_of` before the next one, and give them
    back with `with_gradients` (bertlab.losses.with_gradients).

    Args:
        innermost: the task's own loss.
        wrappers: the strategies within, the outermost first.
    """

    def __init__(self, innermost: TaskLoss, wrappers: Sequence[LossWrapper]) -> None:
        self._innermost, self._wrappers = innermost, wrappers
        self._start: tuple[RandomState, int] | None = None

    @property
    def batch(self) -> Any:
        """The micro-batch; of one of several tasks, the part that is that task's."""
        return self._innermost.batch

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters that are trained now, each once."""
        return list(self.named_parameters.values())

    @property
    def named_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained now, each once, under its first name in the task."""
        return {name: p for name, p in self._innermost.task.named_parameters() if p.requires_grad}

    @property
    def number(self) -> int:
        """Of the next pass through the model for this micro-batch, from 0: names its stream of random numbers.

        Where `same_dropout` draws the random numbers of an earlier pass again, it has the number of that pass.
        """
        return self._innermost.number

    @property
    def outputs(self) -> Tensor:
        """What the task's `forward` gave in the last pass: logits in float32.

        Raises:
            ValueError: its training loss does not go through `forward`.
        """
        if self._innermost.outputs is None:
            raise ValueError(
                f"the training loss of {type(self._innermost.task).__name__} is not made of the outputs of its "
                "forward, so a strategy that compares outputs has nothing to compare"
            )
        return self._innermost.outputs

    def loss(
        self,
        weights: WeightChange | None = None,
        embeddings: EmbeddingChange | None = None,
        same_dropout: bool = False,
    ) -> Tensor:
        """The loss of this micro-batch: its share in that of the optimizer step.

        Args:
            weights: what the model is to see in the place of each of its parameters, while it runs forward: what a
                task computes again in the backward pass (torch.utils.checkpoint) would not see it.
            embeddings: what it is to see in the place of the vectors of the word embedding.
            same_dropout: draw the random numbers of the first pass again: the dropout masks, and what strategies
                within draw. Without it each pass has masks of its own.
        """
        if self._start is None:
            self._start = RandomState(self._innermost.task.device), self._innermost.number
        elif same_dropout:
            state, self._innermost.number = self._start
            state.restore()
        with self._innermost.changed(weights, embeddings):
            if not self._wrappers:
                return self._innermost.compute()
            outermost, *others = self._wrappers
            loss: object = outermost(TrainingPass(self._innermost, others))
            if not isinstance(loss, Tensor) or loss.numel() != 1:
                raise TypeError(
                    f"run.wrap_loss takes a function that returns the loss to train on, a scalar tensor, and "
                    f"{getattr(outermost, '__qualname__', outermost)} returned {loss!r:.80}"
                )
            return loss


def wrapped_loss(
    task: LightningModule, compute: Callable[[Any], Tensor], batch: Any, wrappers: Sequence[LossWrapper]
) -> Tensor:
    """The training loss of a micro-batch with all that strategies make of it.

    Args:
        task: that is trained.
        compute: its training loss of a batch, as it is without strategies.
        batch: the micro-batch.
        wrappers: the outermost first.
    """
    return TrainingPass(TaskLoss(task, compute, batch), wrappers).loss()


def wrap_loss(task: LightningModule, wrappers: Callable[[], Sequence[LossWrapper]]) -> None:
    """Put what strategies make of the training loss in the place of the task's, until `unwrap_loss`.

    Of a micro-batch with parts of several tasks, strategies see one part after another, and the loss is the mean.

    Args:
        task: with a `training_loss`.
        wrappers: gives those that hold at the time, the outermost first.
    """
    own: Any = task.training_loss

    def training_loss(batch: Any) -> Tensor:
        if not isinstance(batch, HasParts):
            return wrapped_loss(task, own, batch, wrappers())
        return torch.stack([wrapped_loss(task, own, part, wrappers()) for part in batch.parts]).mean()

    # On the instance: the class, and what it does without strategies, is left alone.
    vars(task)["training_loss"] = training_loss


def unwrap_loss(task: LightningModule) -> None:
    """Let the task have its own training loss again."""
    vars(task).pop("training_loss", None)


class TaskLoss(nn.Module):
    """The task's own loss, with the weights and embeddings as all strategies together want them.

    Args:
        task: that is trained.
        compute: its training loss of a batch, as it is without strategies.
        batch: the micro-batch.
    """

    outputs: Tensor | None

    def __init__(self, task: LightningModule, compute: Callable[[Any], Tensor], batch: Any) -> None:
        super().__init__()
        self.task = task
        self.batch, self.outputs, self.number = batch, None, 0
        self._compute = compute
        self._weights: list[WeightChange] = []
        self._embeddings: list[EmbeddingChange] = []

    @contextmanager
    def changed(self, weights: WeightChange | None, embeddings: EmbeddingChange | None) -> Generator[None]:
        """Add changes for as long as the context lasts."""
        kept = self._weights, self._embeddings
        self._weights = [*self._weights, *([weights] if weights else [])]
        self._embeddings = [*self._embeddings, *([embeddings] if embeddings else [])]
        try:
            yield
        finally:
            self._weights, self._embeddings = kept

    def compute(self) -> Tensor:
        """One pass through the model."""
        self.number += 1
        with ExitStack() as hooks:
            answering = self.task.tasks[self.batch.task] if isinstance(self.task, HasTasks) else self.task
            hooks.callback(answering.register_forward_hook(self._keep_outputs).remove)
            if self._embeddings:
                hooks.callback(self._hook_embeddings())
            values = self._values() if self._weights else {}
            if self._embeddings or not all(self.get_parameter(name).requires_grad for name in values):
                hooks.enter_context(_whole(self.task))
            if not self._weights:
                return self._compute(self.batch)
            return torch.func.functional_call(self, values, (self.batch,))

    def forward(self, batch: Any) -> Tensor:
        """What `functional_call` calls."""
        return self._compute(batch)

    def _keep_outputs(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.outputs = output

    def _values(self) -> dict[str, Tensor]:
        """What the model sees of each parameter, under its name here; of shared ones under the first name."""
        values: dict[str, Tensor] = {}
        for name, parameter in self.named_parameters():
            value: Tensor = parameter
            for change in self._weights:
                value = change(parameter, value)
            if value is not parameter:
                values[name] = value
        return values

    def _hook_embeddings(self) -> Callable[[], None]:
        assert isinstance(self.task, HasWordEmbedding)
        return self.task.word_embedding.register_forward_hook(self._embed).remove

    def _embed(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        """The table's output, packed (1, N, E) or (N, E), or padded (S, T, E), with all changes made."""
        lengths: Tensor | None = getattr(self.batch, "lengths", None)
        if lengths is None:
            lengths = torch.ones(output.shape[:-1].numel(), dtype=torch.int64)
        rows = torch.arange(len(lengths)).repeat_interleave(lengths)
        places: Any = ...
        if output.shape[:-1].numel() != len(rows):  # padded
            starts = (lengths.cumsum(0) - lengths)[rows]
            places = (rows.to(output.device), (torch.arange(len(rows)) - starts).to(output.device))
        vectors = output[places].reshape(len(rows), -1)
        for change in self._embeddings:
            vectors = change(vectors, rows.to(output.device))
        if places is ...:
            return vectors.view(output.shape)
        return output.index_put(places, vectors)


@contextmanager
def _whole(task: LightningModule) -> Generator[None]:
    """Have the whole model run: what is known of frozen blocks does not hold where they see something else."""
    if not isinstance(task, HasTrunk):
        yield
        return
    kept, task.known_trunk = task.known_trunk, None
    try:
        yield
    finally:
        task.known_trunk = kept

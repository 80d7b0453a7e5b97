"""Run: the façade a strategy is handed. It asks for changes here and never touches model or optimizer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bertlab.callbacks.asking import Asking
from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.classes import Classes, classes_of, flat_counts, flat_names
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.step_seed import seeded

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


class Run(Asking):
    """A training run as a strategy sees it: read where it stands, say what you want.

    Everything asked for holds until the strategy's next stage, when `apply` is called with a fresh slate. In hooks
    other than `apply` asking is refused; what is read, and `note`, are for all of them.

    Attributes:
        stage: number of the strategy's stage, from 0.
        stage_start: optimizer steps done when the stage began.
        stage_end: optimizer steps done when it ends; None where nobody can know yet (a plateau).
        horizon: total steps and steps per epoch.
        blocks: the blocks of the encoder, from the embeddings up.
        head: the block of the task's head.
    """

    def __init__(
        self,
        *,
        strategy: str,
        touches: set[str],
        stage: int,
        span: tuple[int, int | None],
        horizon: Horizon,
        blocks: Blocks,
        trainer: Trainer,
        record: Callable[[str, dict[str, Any]], None],
        starting_weights: dict[int, Tensor],
    ) -> None:
        super().__init__(strategy, touches, blocks)
        self.stage = stage
        self.stage_start, self.stage_end = span
        self.horizon = horizon
        self.trainer = trainer
        self._record = record
        self._starting_weights = starting_weights
        self._notes: list[tuple[str, dict[str, Any]]] = []

    def starting_weight(self, parameter: nn.Parameter) -> Tensor | None:
        """What a parameter was when training began, before any checkpoint was loaded.

        Only for strategies with `needs_starting_weights`.

        Returns:
            None for a parameter that was made for this training, of the head.
        """
        start = self._starting_weights.get(id(parameter))
        if start is not None and (start.device, start.dtype) != (parameter.device, parameter.dtype):
            start = self._starting_weights[id(parameter)] = start.to(parameter)
        return start

    def generator(self, what: str = "", device: torch.device | str = "cpu") -> torch.Generator:
        """Random numbers for the optimizer step under way: the same on all ranks, and after a resume.

        torch's own generators differ between ranks and micro-batches (`StepSeed`); use them for noise that may.

        Args:
            what: tells streams of numbers of one step apart.
            device: of the tensors to fill.
        """
        return seeded(
            self.trainer, f"{self._strategy}/{self.trainer.global_step}{what and '/' + what}", device
        )

    @property
    def step(self) -> int:
        """Optimizer steps since the stage began: 0 in its first step."""
        return self.trainer.global_step - self.stage_start

    def classes(self) -> Mapping[str, Classes]:
        """The classes by task, of one task alone under ""; see `bertlab.callbacks.classes`.

        Raises:
            ValueError: the data has no classes.
        """
        found = classes_of(self.trainer)
        if not found:
            data = type(getattr(self.trainer, "datamodule", None)).__name__
            raise ValueError(
                f"{self._strategy} needs classes, and {data} has none (is this regression?) or does not tell: use a "
                "data module with label_names and class_counts()"
            )
        return found

    def class_counts(self) -> Tensor:
        """(C,) int64 rows of each class in the training split; of several tasks, those of each one after another.

        Raises:
            ValueError: the data has no classes.
        """
        return flat_counts(self.classes())

    def class_names(self) -> tuple[str, ...]:
        """The names of the C classes in the order of their ids; of several tasks `<task>/<label>`."""
        return flat_names(self.classes())

    def note(self, what: str, **facts: Any) -> None:
        """Put an event of your own on the timeline.

        What `apply` notes is recorded when the stage begins, and not again when a resume replays it.

        Raises:
            TypeError: facts that are no plain values.
        """
        try:
            json.dumps(facts)
        except TypeError as error:
            raise TypeError(
                f"{self._strategy}: run.note({what!r}, …) takes facts that JSON has (numbers, strings, true and false, "
                f"lists and dictionaries of such), got {facts!r:.200}: a tensor gives them by tolist() or item()"
            ) from error
        if self._has_asked:
            self._record(what, facts)
        else:
            self._notes.append((what, facts))

    def settle(self) -> list[tuple[str, dict[str, Any]]]:
        """Called when `apply` has returned: hands over what it noted; later notes are recorded at once."""
        self._has_asked = True
        return self._notes

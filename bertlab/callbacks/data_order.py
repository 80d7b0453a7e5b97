"""DataOrder: training begins with easy rows, and harder ones come in."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from lightning.pytorch import Trainer

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.data_course import course_data
from bertlab.callbacks.difficulty import difficulties, ranks_of
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.strategy import Run, Strategy
from bertlab.interfaces import Course, Order
from bertlab.schedules.competence import competence


class DataOrder(Strategy):
    """Draws each batch from the easiest rows, of which there are more from step to step, until they are all.

    Platanios et al. 2019, "Competence-based Curriculum Learning", arXiv:1903.09848, algorithm 1: rows are ranked by
    their difficulty; the batch of step t is drawn uniformly from the share c(t) of the rows that is easiest, with
    c(t) = min(1, √(t (1 − c₀²) / T + c₀²)). From step T on training is what it is without. For data with rows, not for
    pretraining, whose examples are cut anew in each pass, nearly all to the full length: there `SequenceLengthWarmup`
    begins with short ones.

    While c(t) < 1 nothing is seen in turns: in an epoch a row may come several times, in several steps, or not at all;
    hard rows come late and so more seldom. Classes are drawn as often as they are found among easy rows: where spam is
    long, `length` begins with ham alone. Rows that are equally hard have an order that is drawn once, the same in all
    runs. A step has as many rows as it has without (with max_tokens, as many of them as fit).

    Args:
        difficulty: `length`: tokens of a row; `rarity`: −Σ log p of its tokens, p their share in the training rows, so
            long and rare; `column:<name>`: a column of numbers beside the rows, greater where harder; or the path of
            a table (csv, tsv, jsonl, parquet) with columns `id` and `score`, which has every id of the training rows
            (data.init_args.id_column). The last two for `TextClassificationData`.
        start_share: c₀, share of the rows that the first step draws from, in (0, 1).
        fraction: T, as a share of the optimizer steps, in (0, 1].
        power: 2 is the root above, 1 a straight line, greater is faster at first.

    Raises:
        ValueError: an argument is out of range.
    """

    touches: ClassVar[set[str]] = {"order"}
    stages = 1

    def __init__(
        self,
        difficulty: str = "length",
        start_share: float = 0.1,
        fraction: float = 0.5,
        power: float = 2.0,
    ) -> None:
        if not 0 < start_share < 1:
            raise ValueError(f"DataOrder.start_share takes a share in (0, 1), got {start_share}")
        if not 0 < fraction <= 1:
            raise ValueError(f"DataOrder.fraction takes a share in (0, 1], got {fraction}")
        if not 0 < power < float("inf"):
            raise ValueError(f"DataOrder.power takes a number above 0, got {power}")
        self.difficulty, self.start_share = difficulty, start_share
        self.fraction, self.power = fraction, power
        self._ranks: npt.NDArray[np.float64] = np.zeros(0)
        self._alike = False

    def prepare(self, trainer: Trainer, blocks: Blocks, horizon: Horizon) -> None:
        """Rank the training rows by their difficulty.

        Raises:
            ValueError: the table of scores does not fit the training rows.
        """
        found = difficulties(self.difficulty, course_data(self, trainer))
        self._ranks, self._alike = ranks_of(found), bool((found == found[0]).all())

    def never_acts(self, run: Run) -> str | None:
        """All rows are alike, or there is no step in which some are left out."""
        if self._alike:
            return f"by {self.difficulty} all training rows are equally hard"
        return (
            None
            if self._steps(run.horizon)
            else f"fraction {self.fraction:g} of the training is not one step"
        )

    def apply(self, run: Run) -> None:
        """Say which rows each step draws from."""
        steps = self._steps(run.horizon)
        if self._alike or not steps:
            return

        def share(step: int) -> float:
            return competence(step / steps, self.start_share, self.power)

        run.set_course(Course(order=Order(self._ranks, share)))
        run.note("order", by=self.difficulty, start=self.start_share, steps=steps)

    def _steps(self, horizon: Horizon) -> int:
        return round(self.fraction * horizon.total_steps)

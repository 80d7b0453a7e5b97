"""How long a pass over data takes, from a few of its pieces: by a clock that the pieces move."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from lightning.pytorch import Trainer

from bertlab.callbacks.data_pass import DataPass
from bertlab.planning.planned_pass import LONG, seconds_of


class Clock:
    """Tells the time; pieces of a pass each take their seconds, and are of so much of it."""

    def __init__(self, pieces: list[tuple[float, int]]) -> None:
        self.now, self.begun, self.done, self._pieces = 0.0, 0, 0, pieces

    def pieces(self) -> Generator[int]:
        self.begun += 1
        for seconds, amount in self._pieces:
            self.now += seconds
            self.done += 1
            yield amount


@pytest.mark.parametrize(
    ("pieces", "count", "expected", "done"),
    [
        # The first one warms up, the median of the next three is 2 seconds for each of 100.
        ([(90.0 / 10, 1), (2.0, 1), (1.0, 1), (6.0, 2), (5.0, 1)], 3, 200.0, 4),
        ([(0.5, 10), (1.0, 10)], 1, 10.0, 2),
        ([(0.5, 50), (0.25, 50)], 3, 0.5, 4),
        ([(LONG + 2, 4), (1.0, 1)], 3, 25 * (LONG + 2), 1),
        ([(1.0, 1), (LONG + 1, 1), (1.0, 1)], 3, 100 * (LONG + 1), 2),
    ],
    ids=["the median", "in proportion", "fewer pieces than are timed", "one long piece", "a long one later"],
)
def test_seconds_of_the_whole(
    pieces: list[tuple[float, int]],
    count: int,
    expected: float,
    done: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, trainer = Clock(pieces), Trainer(accelerator="cpu", devices=1, logger=False)
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    assert seconds_of(DataPass("", "", 100, clock.pieces), trainer, count) == pytest.approx(expected)
    assert clock.done == done


def test_a_pass_over_nothing_takes_no_time() -> None:
    clock, trainer = Clock([]), Trainer(accelerator="cpu", devices=1, logger=False)
    assert seconds_of(DataPass("", "", 0, clock.pieces), trainer, 3) == 0.0
    assert clock.begun == 0

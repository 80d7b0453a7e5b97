"""Processes that train in turn, a few steps each, so that all of them see the same machine."""

from __future__ import annotations

import os
from pathlib import Path

STEPS = 4  # in a turn


class Turns:
    """The place of this process in a ring; only one of them computes at a time.

    A named pipe leads to each place. Who has the turn has read a byte from its own, and passes it on by writing one to
    the next. So what a process does between two of its steps (validation, a checkpoint) is done in its turn too.

    Args:
        folder: of the pipes, made by `make_ring`.
        place: of this process, from 0.
        places: how many there are.
    """

    def __init__(self, folder: Path, place: int, places: int) -> None:
        # Open for both, so that neither side waits for the other to be there.
        self._own, self._next = (
            os.open(folder / str(number), os.O_RDWR) for number in (place, (place + 1) % places)
        )
        self._has_turn = False

    def begin_step(self, step: int) -> None:
        """Before a step: at the beginning of a turn, pass on the last one and wait for this one.

        Args:
            step: of the epoch.
        """
        if step % STEPS == 0:
            self.pass_on()
            os.read(self._own, 1)
            self._has_turn = True

    def pass_on(self) -> None:
        """The next process may go on."""
        if self._has_turn:
            os.write(self._next, b"x")
            self._has_turn = False


def make_ring(folder: Path, places: int) -> None:
    """Make the pipes."""
    folder.mkdir(parents=True)
    for place in range(places):
        os.mkfifo(folder / str(place))


def start_ring(folder: Path) -> int:
    """Give the first turn to place 0; returns the open end of its pipe, to be kept until it has opened it too."""
    first = os.open(folder / "0", os.O_RDWR)
    os.write(first, b"x")
    return first


def free_ring(folder: Path, places: int) -> None:
    """After a process has failed: the others go on to their end without waiting for it."""
    for place in range(places):
        pipe = os.open(folder / str(place), os.O_RDWR)
        os.write(pipe, b"x" * 4096)  # more than there are turns
        os.close(pipe)


def within_turn(step: int) -> bool:
    """Whether the step after this one is of the same turn, so that nobody waited in between.

    Args:
        step: of the epoch.
    """
    return (step + 1) % STEPS != 0

"""Processes that train in turn, a few steps each, so that all of them see the same machine."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

STEPS = 12  # in a turn: what is cold at its beginning takes a twentieth of a second, once

Result = TypeVar("Result")


@dataclass(frozen=True)
class Place:
    """The place of a process in a ring.

    Attributes:
        ring: folder of the ring.
        place: number of the process, from 0.
        places: how many there are.
    """

    ring: Path
    place: int
    places: int


def in_turn(folder: Path, runs: Mapping[str, Callable[[Place], Result]]) -> dict[str, Result]:
    """Run commands at the same time that train in turn, a few steps each.

    Args:
        folder: of the ring, which is not there yet and is gone afterwards.
        runs: each runs one command, whose process takes the place that it is given; by name.

    Returns:
        What they gave, by name.
    """
    _make_ring(folder, len(runs))
    first = _open_pipe(folder, 0)  # open until the process has opened it too
    os.write(first, b"x")
    places = [Place(folder, number, len(runs)) for number in range(len(runs))]
    with ThreadPoolExecutor(len(runs)) as pool:
        begun = {
            name: pool.submit(_run_and_pass_on, run, place)
            for (name, run), place in zip(runs.items(), places, strict=True)
        }
        for done in as_completed(begun.values()):
            if done.exception() is not None:
                _free_ring(folder, len(runs))  # the others wait for it
            done.result()
    os.close(first)
    shutil.rmtree(folder)
    return {name: done.result() for name, done in begun.items()}


def _run_and_pass_on(run: Callable[[Place], Result], place: Place) -> Result:
    """The last turn of a process ends with the process: giving back its memory takes a second of the machine."""
    following = _pipe_after(place)  # open before anything is written to it
    result = run(place)
    _pass_on(following)
    os.close(following)
    return result


class Turns:
    """The place of this process in a ring; only one of them computes at a time.

    A named pipe leads to each place. Who has the turn has read a byte from its own, and passes it on by writing one to
    the next. So what a process does between two of its steps (validation, a checkpoint) is done in its turn too, and
    what it does after the last of them: its last turn ends with the process, after which `in_turn` passes it on.

    Args:
        place: of this process.
    """

    def __init__(self, place: Place) -> None:
        self._own = _open_pipe(place.ring, place.place)
        self._next = _pipe_after(place)
        self._has_turn = False

    def begin_step(self, step: int) -> None:
        """Before a step: at the beginning of a turn, pass on the last one and wait for this one.

        Args:
            step: of the epoch.
        """
        if step % STEPS == 0:
            if self._has_turn:
                _pass_on(self._next)
            os.read(self._own, 1)
            self._has_turn = True


def _open_pipe(ring: Path, place: int) -> int:
    """Open for both, so that neither side waits for the other to be there."""
    return os.open(ring / str(place), os.O_RDWR)


def _pipe_after(place: Place) -> int:
    return _open_pipe(place.ring, (place.place + 1) % place.places)


def _pass_on(following: int) -> None:
    """The next process may go on, once what this one has written (a checkpoint) is on the disk.

    Otherwise it would be written while the next one computes, and cost that one the time.
    """
    os.sync()
    os.write(following, b"x")


def _make_ring(folder: Path, places: int) -> None:
    folder.mkdir(parents=True)
    for place in range(places):
        os.mkfifo(folder / str(place))


def _free_ring(folder: Path, places: int) -> None:
    """After a process has failed: the others go on to their end without waiting for it."""
    for place in range(places):
        pipe = _open_pipe(folder, place)
        os.write(pipe, b"x" * 4096)  # more than there are turns
        os.close(pipe)


def add_place_options(parser: argparse.ArgumentParser) -> None:
    """The options that `place_of` reads."""
    parser.add_argument("--ring", type=Path, help="of experiments.turns: train in turn with other processes")
    parser.add_argument("--place", type=int, help="of this process in the ring")
    parser.add_argument("--places", type=int, help="of the ring")


def place_of(options: argparse.Namespace) -> Place | None:
    """The place that a command was given; None: it trains alone."""
    return None if options.ring is None else Place(options.ring, options.place, options.places)


def options_of(place: Place) -> list[str]:
    """The options that say it to a command."""
    return ["--ring", str(place.ring), "--place", str(place.place), "--places", str(place.places)]


def within_turn(step: int) -> bool:
    """Whether the step after this one is of the same turn, so that nobody waited in between.

    Args:
        step: of the epoch.
    """
    return (step + 1) % STEPS != 0

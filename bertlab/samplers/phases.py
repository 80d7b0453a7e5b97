"""Which samples an optimizer step takes: phases of lengths and batch sizes as arithmetic on step numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Phase:
    """A part of the training with its own length of sequences.

    Attributes:
        length: tokens of a sequence at most, special ones included.
        fraction: share of the optimizer steps, in (0, 1]; the phases' add up to 1.
        batch_size: sequences of an optimizer step; null: as the data module says.
    """

    length: int = 128
    fraction: float = 1.0
    batch_size: int | None = None


class Step(NamedTuple):
    """The samples of one optimizer step.

    Attributes:
        stream: number of the run of phases with one length that it lies in.
        first: number, in that stream, of the first sample.
        size: G, how many samples.
        number: of the first sample, counted over all streams.
    """

    stream: int
    first: int
    size: int
    number: int


class StepSchedule:
    """Which samples each of `total_steps` optimizer steps takes, in constant time for any step.

    Phases in a row with the same length go on in one stream of samples; another length begins a stream of its
    own. Sizes are those of whole optimizer steps, so they know nothing of ranks and micro-batches.

    Args:
        phases: in order.
        sizes: sequences of an optimizer step in each phase.
        total_steps: of the training.
        warmup_steps: over which the batch grows linearly.
        warmup_size: sequences of the first of those; a phase with fewer has its own from the start.

    Examples:
        >>> schedule = StepSchedule([Phase(128, 0.75), Phase(512, 0.25)], [8, 2], total_steps=8)
        >>> schedule.step(5), schedule.step(7)
        (Step(stream=0, first=40, size=8, number=40), Step(stream=1, first=2, size=2, number=50))
        >>> schedule.samples_before(8)
        52
    """

    def __init__(
        self,
        phases: Sequence[Phase],
        sizes: Sequence[int],
        total_steps: int,
        warmup_steps: int = 0,
        warmup_size: int = 1,
    ) -> None:
        self.total_steps = total_steps
        ends = np.rint(np.cumsum([phase.fraction for phase in phases]) * total_steps).astype(np.int64)
        ends[-1] = total_steps
        #: optimizer steps of each phase.
        self.steps_of_phases: list[int] = np.diff(ends, prepend=0).tolist()
        streams = streams_of(phases)
        # A segment is a run of steps of one size in one phase: its first step, size and stream.
        segments: list[tuple[int, int, int]] = []
        begin = 0
        for end, size, stream in zip(ends.tolist(), sizes, streams, strict=True):
            for first, grown in _growing(begin, min(end, warmup_steps), warmup_steps, warmup_size, size):
                segments.append((first, grown, stream))
            if max(begin, warmup_steps) < end:
                segments.append((max(begin, warmup_steps), size, stream))
            begin = end
        self._starts = np.array([start for start, _, _ in segments], dtype=np.int64)
        self._sizes = np.array([size for _, size, _ in segments], dtype=np.int64)
        self._streams = np.array([stream for _, _, stream in segments], dtype=np.int64)
        samples = np.diff(np.append(self._starts, total_steps)) * self._sizes
        self._before = np.cumsum(samples) - samples
        self._stream_begins = {
            int(stream): int(self._before[self._streams == stream][0]) for stream in np.unique(self._streams)
        }

    def step(self, step: int) -> Step:
        """The samples of optimizer step `step`, counted from 0."""
        if not 0 <= step < self.total_steps:
            raise IndexError(f"step {step} of a training of {self.total_steps} steps")
        segment = int(np.searchsorted(self._starts, step, side="right")) - 1
        number = int(self._before[segment] + (step - self._starts[segment]) * self._sizes[segment])
        stream = int(self._streams[segment])
        return Step(stream, number - self._stream_begins[stream], int(self._sizes[segment]), number)

    def samples_before(self, step: int) -> int:
        """How many samples the steps before `step` took; `step` may be `total_steps`."""
        if step == 0:
            return 0
        last = self.step(step - 1)
        return last.number + last.size

    def taken(self, step: int) -> list[int]:
        """How many samples the steps before `step` took of each stream that they had begun; `step` as above.

        >>> schedule = StepSchedule([Phase(128, 0.75), Phase(512, 0.25)], [8, 2], total_steps=8)
        >>> schedule.taken(0), schedule.taken(6), schedule.taken(7)
        ([], [48], [48, 2])
        """
        total = self.samples_before(step)
        begins = [begin for begin in self._stream_begins.values() if begin < total]
        return [end - begin for begin, end in pairwise([*begins, total])]

    @property
    def smallest(self) -> int:
        """Samples of the smallest step."""
        return int(self._sizes.min())


def streams_of(phases: Sequence[Phase]) -> list[int]:
    """The stream of samples that each phase takes its own from: a new one where the length changes.

    >>> streams_of([Phase(128, 0.5), Phase(128, 0.4, 64), Phase(512, 0.1)])
    [0, 0, 1]
    """
    streams = [0]
    for before, phase in pairwise(phases):
        streams.append(streams[-1] + (phase.length != before.length))
    return streams


def batch_sizes_of(phases: Sequence[Phase], batch_size: int | None, batch_tokens: int | None) -> list[int]:
    """Sequences of an optimizer step in each phase: its own batch size, else so many, or what so many tokens make.

    Args:
        phases: in order.
        batch_size: sequences of an optimizer step; None: as `batch_tokens` says.
        batch_tokens: tokens of an optimizer step; None: as `batch_size` says.

    Examples:
        >>> phases = [Phase(128, 0.5), Phase(128, 0.4, 64), Phase(512, 0.1)]
        >>> batch_sizes_of(phases, 256, None), batch_sizes_of(phases, None, 32768)
        ([256, 64, 256], [256, 64, 64])
    """
    sizes: list[int] = []
    for phase in phases:
        asked = batch_size if batch_tokens is None else max(1, batch_tokens // phase.length)
        size = asked if phase.batch_size is None else phase.batch_size
        assert size is not None
        sizes.append(size)
    return sizes


def check_phases(phases: Sequence[Phase]) -> None:
    """Refuse phases that do not make a training.

    Raises:
        ValueError: names the key.
    """
    if not phases:
        raise ValueError("data.init_args.phases is empty. Accepted: at least one, e.g. [{length: 128}]")
    for phase in phases:
        if not 0.0 < phase.fraction <= 1.0:
            raise ValueError(f"data.init_args.phases: fraction {phase.fraction} is not in (0, 1]")
        if phase.length < 8:
            raise ValueError(f"data.init_args.phases: length {phase.length} is less than 8 tokens")
        if phase.batch_size is not None and phase.batch_size < 1:
            raise ValueError(f"data.init_args.phases: batch_size {phase.batch_size} is not a positive number")
    total = sum(phase.fraction for phase in phases)
    if abs(total - 1.0) > 1e-6:
        raise ValueError(f"data.init_args.phases: the fractions add up to {total:g}, and must to 1")


def _growing(begin: int, end: int, warmup_steps: int, first_size: int, size: int) -> list[tuple[int, int]]:
    """Where in the steps `begin` … `end` − 1 of a linear growth the size changes, and to what."""
    if begin >= end:
        return []
    steps = np.arange(begin, end)
    sizes = min(first_size, size) + max(0, size - first_size) * steps // warmup_steps
    changes = np.flatnonzero(np.diff(sizes, prepend=sizes[0] - 1))
    return [(int(steps[at]), int(sizes[at])) for at in changes]

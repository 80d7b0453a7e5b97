"""How the sequences of a packed batch are laid out, and in which runs attention works on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Span(NamedTuple):
    """Neighbouring sequences that attention treats together, padded to the longest of them.

    Attributes:
        start: number of the first sequence.
        stop: number after the last sequence.
        longest: tokens of the longest sequence.
    """

    start: int
    stop: int
    longest: int


def runs_of_like_length(lengths: Sequence[int], max_waste: float) -> list[Span]:
    """Divide sequences into runs of neighbours that are padded together.

    A run grows as long as at most the share `max_waste` of its padded tokens would be padding. Greedy, in one
    pass; lengths in descending order give the fewest runs.

    Args:
        lengths: tokens of each sequence, at least 1 each.
        max_waste: in [0, 1); 0 makes a run of each stretch of equal length.

    Returns:
        The runs in order; together they hold every sequence once.

    >>> runs_of_like_length([9, 8, 8, 3, 3], max_waste=0.1)
    [Span(start=0, stop=3, longest=9), Span(start=3, stop=5, longest=3)]
    """
    if not 0 <= max_waste < 1:
        raise ValueError(f"max_waste takes a share in [0, 1), got {max_waste}")
    runs: list[Span] = []
    start = tokens = longest = 0
    for number, length in enumerate(lengths):
        grown = max(longest, length)
        padded = grown * (number + 1 - start)
        if number > start and padded - (tokens + length) > max_waste * padded:
            runs.append(Span(start, number, longest))
            start, tokens, grown = number, 0, length
        tokens, longest = tokens + length, grown
    if lengths:
        runs.append(Span(start, len(lengths), longest))
    return runs


@dataclass(frozen=True)
class Run:
    """A run of sequences with what its padding needs.

    Attributes:
        first: number of its first token in the packed batch.
        tokens: how many tokens it has.
        sequences: how many sequences it has.
        longest: tokens of the longest sequence.
        take: (sequences × longest,) which of the run's tokens stands in each padded place; a place of padding
            takes the first token of its sequence. None where nothing is padded.
        keep: (tokens,) the padded place of each token. None where nothing is padded.
        padding: (sequences, longest) True where there is padding. None where nothing is padded.
    """

    first: int
    tokens: int
    sequences: int
    longest: int
    take: Tensor | None
    keep: Tensor | None
    padding: Tensor | None


@dataclass(frozen=True)
class Packing:
    """The layout of one packed batch; made once, used by every layer.

    Attributes:
        rows: (N,) number of the sequence that each token is in.
        positions: (N,) place of each token in its own sequence.
        starts: (S,) number of the first token of each sequence.
        runs: the runs that attention works on.
        first_only: nothing above the last layer's attention is needed but the first token of each sequence.
        needed: (Q,) numbers of the tokens that are needed above the last layer's attention; None: all.
        filler: rows that stand behind the tokens within the layers, of no sequence and without effect.
    """

    rows: Tensor
    positions: Tensor
    starts: Tensor
    runs: tuple[Run, ...]
    first_only: bool = False
    needed: Tensor | None = None
    filler: int = 0

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(run.longest for run in self.runs)


def pack(
    lengths: Tensor,
    device: torch.device,
    max_waste: float,
    first_only: bool = False,
    needed: Tensor | None = None,
    multiple: int = 1,
) -> Packing:
    """Lay out a batch.

    Args:
        lengths: (S,) tokens of each sequence, on the CPU.
        device: of the tokens.
        max_waste: share of padding that a run may have, in [0, 1).
        first_only: see `Packing`.
        needed: (P,) numbers of tokens that are needed beside the first of each sequence; None: all.
        multiple: of which the rows of the layers, and the numbers of needed tokens, are made up to a whole number:
            by filler, and by the first token again. For processors that make a program for each shape of a product.
    """
    counts: list[int] = lengths.tolist()
    starts = lengths.cumsum(0) - lengths
    rows = torch.arange(len(lengths)).repeat_interleave(lengths)
    positions = torch.arange(len(rows)) - starts[rows]
    offsets: list[int] = starts.tolist()
    runs = tuple(
        _run(offsets[span.start], lengths[span.start : span.stop], span.longest, device)
        for span in runs_of_like_length(counts, max_waste)
    )
    first = starts.to(device)
    chosen = None if needed is None else torch.cat([first, needed])
    if chosen is not None:
        chosen = torch.cat([chosen, chosen.new_zeros(-len(chosen) % multiple)])
    filler = -len(rows) % multiple
    return Packing(rows.to(device), positions.to(device), first, runs, first_only, chosen, filler)


def _run(first: int, lengths: Tensor, longest: int, device: torch.device) -> Run:
    sequences, tokens = len(lengths), int(lengths.sum())
    if tokens == sequences * longest:
        return Run(first, tokens, sequences, longest, None, None, None)
    places = torch.arange(longest)
    padding = places >= lengths[:, None]
    starts = (lengths.cumsum(0) - lengths)[:, None]
    take = torch.where(padding, starts, starts + places).reshape(-1)
    keep = (~padding).reshape(-1).nonzero().reshape(-1)
    return Run(first, tokens, sequences, longest, take.to(device), keep.to(device), padding.to(device))

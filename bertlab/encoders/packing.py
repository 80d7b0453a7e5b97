"""How the sequences of a packed batch are laid out for attention: in groups of bins of equal width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from bertlab.encoders.bins import Bins, shared_bins, single_bins


@dataclass(frozen=True)
class Group:
    """Bins of equal width, which attention works on in the same products.

    Attributes:
        start: number of its first place among the places of all groups.
        bins: how many there are.
        width: places of each bin.
        owner: (bins, width) number of the sequence whose token stands in each place, -1 where there is none. None where
            every bin is one sequence without padding.
    """

    start: int
    bins: int
    width: int
    owner: Tensor | None

    @property
    def places(self) -> slice:
        """Its places among those of all groups."""
        return slice(self.start, self.start + self.bins * self.width)


class Layout(NamedTuple):
    """Where the tokens of a batch stand for attention.

    Attributes:
        groups: of bins that attention works on; together they hold every sequence once.
        take: (P,) which token stands in each place of the groups; a place of padding takes the first token of its bin.
            None where the places are the tokens as they come.
        keep: (N,) the place of each token; None as for `take`.
    """

    groups: tuple[Group, ...]
    take: Tensor | None
    keep: Tensor | None


@dataclass(frozen=True)
class Packing:
    """Which token of a packed batch belongs where; made once, used by every layer.

    Attributes:
        lengths: (S,) tokens of each sequence, on the CPU.
        offsets: (S + 1,) number of the first token of each sequence, and of all tokens.
        rows: (N,) number of the sequence that each token is in.
        positions: (N,) place of each token in its own sequence.
        max_waste: share of padding that a group of the layout may have, in [0, 1), with one sequence in each bin; None:
            sequences share bins (`shared_bins`).
        first_only: nothing above the last layer's attention is needed but the first token of each sequence.
        needed: (Q,) numbers of the tokens that are needed above the last layer's attention; None: all.
        filler: rows that stand behind the tokens within the layers, of no sequence and without effect.
    """

    lengths: npt.NDArray[np.int64]
    offsets: Tensor
    rows: Tensor
    positions: Tensor
    max_waste: float | None
    first_only: bool = False
    needed: Tensor | None = None
    filler: int = 0
    _hidden: dict[object, Tensor] = field(default_factory=dict[object, Tensor], compare=False, repr=False)

    @property
    def starts(self) -> Tensor:
        """(S,) number of the first token of each sequence."""
        return self.offsets[:-1]

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return int(self.lengths.max(initial=0))

    @cached_property
    def offsets32(self) -> Tensor:
        """`offsets` in 32 bits, as kernels take them."""
        return self.offsets.to(torch.int32)

    @cached_property
    def layout(self) -> Layout:
        """For attention that works on bins."""
        lengths: list[int] = self.lengths.tolist()
        bins = shared_bins(lengths) if self.max_waste is None else single_bins(lengths, self.max_waste)
        return _lay_out(bins, self.lengths, self.rows.device)

    def bias(self, group: Group, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """What is added to the scores of a group, (bins, 1, width, width): -inf where a token must not look.

        Args:
            group: of this packing.
            window: a token sees those less than this many places away; None: all of its sequence.
            dtype: of the scores.

        Returns:
            None where every token may look everywhere. A place of padding sees padding alone, and no token sees it, so
            that what it holds reaches no token and no gradient.
        """
        window = None if window is None or window >= group.width else window
        if group.owner is None and window is None:
            return None
        key = (group.start, window, dtype)
        if key not in self._hidden:
            shape, device = (group.bins, 1, group.width, group.width), self.rows.device
            hidden = torch.zeros((), dtype=torch.bool, device=device)
            if group.owner is not None:
                hidden = (group.owner[:, :, None] != group.owner[:, None, :])[:, None]
            if window is not None:
                places = torch.arange(group.width, device=device)
                hidden = hidden | ((places - places[:, None]).abs() >= window)
            zeros = torch.zeros(shape, dtype=dtype, device=device)
            self._hidden[key] = zeros.masked_fill_(hidden, float("-inf"))
        return self._hidden[key]


def pack(
    lengths: Tensor,
    device: torch.device,
    max_waste: float | None = None,
    first_only: bool = False,
    needed: Tensor | None = None,
    multiple: int = 1,
) -> Packing:
    """Lay out a batch.

    Args:
        lengths: (S,) tokens of each sequence, on the CPU.
        device: of the tokens.
        max_waste: share of padding that a group may have, in [0, 1), with one sequence in each bin; None: sequences
            share bins (`shared_bins`).
        first_only: see `Packing`.
        needed: (P,) numbers of tokens that are needed beside the first of each sequence; None: all.
        multiple: of which the rows of the layers, and the numbers of needed tokens, are made up to a whole number:
            by filler, and by the first token again. For processors that make a program for each shape of a product.
    """
    sizes, count = lengths.numpy(), int(lengths.sum())
    # Made on the device: what is sent there from ordinary memory would wait for all that it still has to do.
    on_device = lengths.to(device, non_blocking=True)
    offsets = functional.pad(on_device.cumsum(0), (1, 0))
    rows = torch.arange(len(sizes), device=device).repeat_interleave(on_device, output_size=count)
    positions = torch.arange(count, device=device) - offsets[rows]
    chosen = None if needed is None else torch.cat([offsets[:-1], needed])
    if chosen is not None:
        chosen = torch.cat([chosen, chosen.new_zeros(-len(chosen) % multiple)])
    filler = -count % multiple
    return Packing(sizes, offsets, rows, positions, max_waste, first_only, chosen, filler)


def _lay_out(all_bins: Sequence[Bins], sizes: npt.NDArray[np.int64], device: torch.device) -> Layout:
    """The groups, and which token stands where."""
    starts = sizes.cumsum() - sizes
    rows = np.arange(len(sizes)).repeat(sizes)
    positions = np.arange(len(rows)) - starts[rows]
    offsets = np.cumsum([0, *(bins.count * bins.width for bins in all_bins)])
    place_of_first = np.empty(len(sizes), np.int64)
    take = np.empty(offsets[-1], np.int64)
    for offset, bins in zip(offsets, all_bins, strict=False):
        sequences, bin_of, at = map(np.asarray, (bins.sequences, bins.bin, bins.at))
        place_of_first[sequences] = offset + bin_of * bins.width + at
        first_of_bin = np.empty(bins.count, np.int64)
        first_of_bin[bin_of[at == 0]] = starts[sequences[at == 0]]
        take[offset : offset + bins.count * bins.width] = first_of_bin.repeat(bins.width)
    keep = place_of_first[rows] + positions
    take[keep] = np.arange(len(rows))
    owner = np.full(offsets[-1], -1)
    owner[keep] = rows
    owners = torch.from_numpy(owner).to(device)
    groups: list[Group] = []
    for offset, bins in zip(offsets.tolist(), all_bins, strict=False):
        whole = len(bins.sequences) == bins.count and bool((sizes[bins.sequences] == bins.width).all())
        of_bins = owners[offset : offset + bins.count * bins.width].view(bins.count, bins.width)
        groups.append(Group(offset, bins.count, bins.width, None if whole else of_bins))
    if len(take) == len(rows) and bool((keep == np.arange(len(rows))).all()):
        return Layout(tuple(groups), None, None)
    return Layout(tuple(groups), torch.from_numpy(take).to(device), torch.from_numpy(keep).to(device))

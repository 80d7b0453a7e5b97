"""Choosing blocks of a model: by count from the top, by name, range or regular expression."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from bertlab.interfaces import Block


class Blocks(Sequence[Block]):
    """The blocks of a model in order, the lowest (embeddings) first.

    Args:
        blocks: from the embeddings up.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = tuple(blocks)

    def __getitem__(self, index: int) -> Block:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._blocks[index]

    def __len__(self) -> int:
        return len(self._blocks)

    def __iter__(self) -> Iterator[Block]:
        return iter(self._blocks)

    @property
    def names(self) -> list[str]:
        """The names from the bottom up."""
        return [block.name for block in self._blocks]

    @property
    def layers(self) -> Blocks:
        """The layers of the encoder: what is named "layer.0", "layer.1", …."""
        return Blocks([block for block in self._blocks if block.name.startswith("layer.")])

    def top(self, count: int) -> Blocks:
        """The `count` highest blocks (all, if there are fewer), still in order from the bottom up."""
        if count < 0:
            raise ValueError(f"blocks.top takes a count of 0 or more, got {count}")
        return Blocks(self._blocks[max(0, len(self._blocks) - count) :])

    def bottom(self, count: int) -> Blocks:
        """The `count` lowest blocks (all, if there are fewer)."""
        if count < 0:
            raise ValueError(f"blocks.bottom takes a count of 0 or more, got {count}")
        return Blocks(self._blocks[:count])

    def named(self, *selectors: str) -> Blocks:
        r"""The blocks that any of the selectors names, in order, each once.

        Args:
            selectors: a name ("layer.3"), "all", a range of names with both ends in it
                ("layer.2-layer.5", "embeddings-layer.3"), or a regular expression that matches a whole name
                ("layer\.[0-3]").

        Raises:
            ValueError: a selector that matches no block, a range that runs downwards, a broken expression.
        """
        chosen = {id(block) for selector in selectors for block in self._matches(selector)}
        return Blocks([block for block in self._blocks if id(block) in chosen])

    def _matches(self, selector: str) -> list[Block]:
        names = self.names
        if selector == "all":
            return list(self._blocks)
        if selector in names:
            return [self._blocks[names.index(selector)]]
        first, dash, last = selector.partition("-")
        if dash and first in names and last in names:
            start, end = names.index(first), names.index(last)
            if start > end:
                raise ValueError(f"the range of blocks {selector!r} runs downwards; write {last}-{first}")
            return list(self._blocks[start : end + 1])
        try:
            pattern = re.compile(selector)
        except re.error as error:
            raise ValueError(
                f"{selector!r} is neither a block's name, nor a range, nor a regular expression ({error}); "
                f"blocks: {', '.join(names)}"
            ) from error
        found = [block for block in self._blocks if pattern.fullmatch(block.name)]
        if not found:
            raise ValueError(f"{selector!r} matches no block; the blocks are {', '.join(names)}")
        return found


def each_once(blocks: Iterable[Block | Iterable[Block]]) -> list[Block]:
    """Blocks that are given one by one or as sequences, in the order given, each once.

    Raises:
        TypeError: one is no block.
    """
    found: dict[int, Block] = {}
    for item in blocks:
        for block in [item] if isinstance(item, Block) else item:
            if not isinstance(block, Block):
                raise TypeError(
                    "blocks are taken as objects, such as run.head, run.blocks.top(2) or "
                    f"run.all_blocks.named('head'), got {item!r:.80}"
                )
            found[id(block)] = block
    return list(found.values())

"""Which shards of a stage others have finished so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bertlab.corpus.stage import Stage


class AwaitedShards:
    """The shards of a stage that are not finished, by what is seen of their marks.

    Args:
        stage: the stage.
        shards: all that are awaited.
        advance: is called for each that is found finished.
    """

    def __init__(self, stage: Stage, shards: Sequence[int], advance: Callable[[], None]) -> None:
        self._stage, self._advance = stage, advance
        self.left = list(shards)

    def look(self) -> list[int]:
        """Look again; returns what is still awaited."""
        # Listed: a network file system may take what was not there a moment ago for missing longer than it is.
        names = {path.name for path in self._stage.folder.iterdir()}
        finished = {n for n in self.left if f"{n:05d}.json" in names and self._stage.is_finished(n)}
        for _ in finished:
            self._advance()
        self.left = [shard for shard in self.left if shard not in finished]
        return self.left

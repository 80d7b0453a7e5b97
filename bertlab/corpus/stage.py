"""A stage of the build: the same work on each shard, in any order, by any number of workers."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from bertlab.corpus.atomic_files import read_json, write_json


class Stage(ABC):
    """Turns shard number i of a folder into files of another one.

    A shard is finished when its mark `00000.json` is there, which comes last and holds its numbers and the sizes of
    its files. So a stage that was stopped anywhere, also by kill -9, goes on with the shards that lack it. Stages are
    pickled to worker processes and to other machines, where a shard may be worked on twice at a time (a job that was
    given up may still run): files are moved to their places whole, and both write the same bytes.
    """

    folder: Path
    title: str

    @abstractmethod
    def work(self, shard: int, folder: Path) -> tuple[dict[str, Any], list[Path]]:
        """Do the work, writing into `folder`; returns the numbers of the shard, and the files written."""

    def __call__(self, shard: int) -> None:
        """Do the work of a shard, and mark it finished.

        Raises:
            FileNotFoundError: `self.folder` is not there, which the build makes: it was given up, or is not seen here.
        """
        with tempfile.TemporaryDirectory(prefix=f".{shard:05d}.", dir=self.folder) as part:
            try:
                numbers, files = self.work(shard, Path(part))
            except FileNotFoundError:
                if self.is_finished(shard):  # by another worker, which has deleted what it was made of
                    return
                raise
            mark = Path(part) / self._mark(shard).name
            write_json(
                mark, {"numbers": numbers, "files": {path.name: path.stat().st_size for path in files}}
            )
            for path in (*files, mark):
                path.replace(self.folder / path.name)
        self.after(shard)

    def after(self, shard: int) -> None:
        """Called when a shard is finished, for what is not needed any more."""
        return

    def is_finished(self, shard: int) -> bool:
        """Whether the files of a shard are there, whole."""
        if not self._mark(shard).exists():
            return False
        files = {self.folder / name: size for name, size in read_json(self._mark(shard))["files"].items()}
        return all(path.exists() and path.stat().st_size == size for path, size in files.items())

    def numbers(self, shard: int) -> dict[str, Any]:
        """What `work` counted."""
        return read_json(self._mark(shard))["numbers"]

    def _mark(self, shard: int) -> Path:
        return self.folder / f"{shard:05d}.json"

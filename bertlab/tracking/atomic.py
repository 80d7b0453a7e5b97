"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any


@contextmanager
def atomic_file(path: str | Path) -> Generator[IO[Any]]:
    """A binary file to write, which becomes `path` only when everything is on the disk.

    The temporary file lies in the same folder, so that the last move is atomic (POSIX rename). If writing
    fails (a full disk, an interrupt), what stood at `path` before still stands there, and nothing is left.

    Args:
        path: file to make or to replace; its folder is made if it is missing.

    Yields:
        The open temporary file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o666 & ~_umask())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    _sync_folder(path.parent)


def _umask() -> int:
    """The process's umask: temporary files are made for the owner alone, results are not."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Put the new name on the disk too; on Windows a folder cannot be opened, and needs no sync."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

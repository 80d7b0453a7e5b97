"""A folder that is there whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(folder: Path) -> Generator[Path]:
    """A folder beside its place, to write into; renamed when the context ends, taken away if it ends by an error.

    Args:
        folder: to make.

    Raises:
        FileExistsError: there is something.
    """
    if folder.exists():
        raise FileExistsError(f"--output: {folder} is there already; name a folder that is not")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.part-", dir=folder.parent))
    try:
        yield part
        part.chmod(0o755)  # mkdtemp makes it private
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)

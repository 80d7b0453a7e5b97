"""Files of a user, written for a test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bertlab.sources.cache import cache_folder


def put(folder: Path, name: str, content: str | bytes) -> str:
    """Write a file; its path."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def jsonl(*rows: dict[str, Any]) -> str:
    """Rows as lines of JSON."""
    return "".join(json.dumps(row) + "\n" for row in rows)


@contextmanager
def refused(
    message: str, kind: type[Exception] = ValueError, after_tokenising: bool = False
) -> Iterator[None]:
    """What is done within fails with a message, and leaves the cache as it was: with nothing half-written in it.

    Args:
        message: a pattern.
        kind: of the error.
        after_tokenising: of other rows, which stay in the cache, whole.
    """

    def cached() -> dict[Path, bytes]:
        files = (path for path in cache_folder().rglob("*") if path.is_file() and path.suffix != ".lock")
        return {path: path.read_bytes() for path in files}

    before = cached()
    with pytest.raises(kind, match=message):
        yield
    after = cached()
    assert before.items() <= after.items()
    new = [path.relative_to(cache_folder()) for path in after.keys() - before.keys()]
    assert bool(new) == after_tokenising, new
    assert not [path for path in new if ".part" in str(path)]

"""Reader: what every source of documents is, and what those that read files have in common."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from bertlab.corpus.document import Document
from bertlab.corpus.text_stream import files_of


class Reader(ABC):
    """Yields documents, in an order that depends on its input alone."""

    @abstractmethod
    def documents(self, limit: int) -> Iterator[Document]:
        """The documents, none with more than about `limit` characters: longer ones come in parts."""

    def after(self, place: Any, limit: int) -> Iterator[tuple[Document, Any]]:
        """The documents after a place, each with the place after it: how a build that was stopped reads on.

        Here a place is the number of documents before it, which are read again and passed over. A reader that can
        begin in the middle has places of its own.

        Args:
            place: as it came with a document, or what JSON makes of it; None: the beginning.
            limit: as in `documents`, and the same each time.
        """
        passed = int(place or 0)
        rest = islice(self.documents(limit), passed, None)
        return ((document, number) for number, document in enumerate(rest, start=passed + 1))

    @abstractmethod
    def identity(self) -> list[dict[str, Any]]:
        """What tells this input from another one, as plain values: of files, name, size and sha256."""


class FileReader(Reader):
    """A reader of files; subclasses have `path`."""

    path: str | list[str]

    def identity(self) -> list[dict[str, Any]]:
        """Name, size and sha256 of each file."""
        return [file_identity(path) for path in files_of(self.path)]


def file_identity(path: Path) -> dict[str, Any]:
    """Name, size and sha256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": digest}

"""A data set of the hub that tells which documents it was asked for, and kills its process when it is told to."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertlab.corpus.document import Document
from bertlab.corpus.readers import HubDataset


@dataclass(frozen=True)
class WatchedHub(HubDataset):
    """Reads as a `HubDataset` does.

    Attributes:
        folder: `asked` in it gets a line for each document, its first two words; as long as `trouble` is there, the
            document whose words stand in it kills the process.
    """

    folder: str = "."

    def after(self, place: Any, limit: int) -> Iterator[tuple[Document, Any]]:
        for document, then in super().after(place, limit):
            first = " ".join(document.text.split(maxsplit=2)[:2])
            with Path(self.folder, "asked").open("a") as file:
                file.write(f"{first}\n")
            trouble = Path(self.folder, "trouble")
            if trouble.exists() and trouble.read_text() == first:
                os.kill(os.getpid(), signal.SIGKILL)
            yield document, then

"""A cleaner that tells which documents it saw, and fails when it is told to."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Literal

from bertlab.corpus.cleaning import Rejection


class WatchedCleaner:
    """Keeps every text as it is.

    Args:
        folder: `seen` in it gets a line for each document, its first two words; as long as `trouble` is there,
            the document whose words stand in it fails.
        how: the document raises an error, kills its process, or the one above it.
    """

    def __init__(self, folder: str, how: Literal["raise", "die", "orphan"] = "raise") -> None:
        self.folder, self.how = folder, how

    def __call__(self, text: str) -> str | Rejection:
        first = " ".join(text.split(maxsplit=2)[:2])
        trouble = Path(self.folder, "trouble")
        if trouble.exists() and trouble.read_text() == first:
            if self.how != "raise":
                os.kill(os.getpid() if self.how == "die" else os.getppid(), signal.SIGKILL)
            raise ValueError(f"the words {first} are not liked")
        with Path(self.folder, "seen").open("a") as file:
            file.write(f"{first}\n")
        return text

"""A pickle that does what nobody asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.target}",))

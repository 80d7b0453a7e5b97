"""Files of a user, written for a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def put(folder: Path, name: str, content: str | bytes) -> str:
    """Write a file; its path."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def jsonl(*rows: dict[str, Any]) -> str:
    """Rows as lines of JSON."""
    return "".join(json.dumps(row) + "\n" for row in rows)

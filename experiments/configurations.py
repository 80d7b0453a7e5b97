"""Configurations of bertlab as plain values, for programs that are not bertlab."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def load_config(path: Path) -> dict[str, Any]:
    """A configuration of bertlab as plain values, with the fragments that it names by path (relative to itself)."""

    def whole(node: Any, folder: Path) -> Any:
        if isinstance(node, dict):
            return {key: whole(value, folder) for key, value in node.items()}
        if isinstance(node, list):
            return [whole(value, folder) for value in node]
        if isinstance(node, str) and node.endswith(".yaml"):
            return load_config(folder / node)
        return node

    return whole(yaml.safe_load(path.read_text(encoding="utf-8")), path.parent)

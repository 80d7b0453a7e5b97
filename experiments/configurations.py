"""Configurations of bertlab as plain values, for programs that are not bertlab, and what commands make of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from experiments.commands import ROOT


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


def digest_of(words: Iterable[str]) -> str:
    """A hash of a command: of its words, and of what is in the configurations that they name, with all fragments.

    Comments and names of files do not count.

    Args:
        words: of the command; `configs/….yaml`, alone or behind an equals sign, from the root of the repository.
    """

    def content(word: str) -> Any:
        option, _, value = word.rpartition("=")
        return [option, load_config(ROOT / value)] if value.endswith(".yaml") else word

    text = json.dumps([content(word) for word in words], sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def configurations_in(settings: Mapping[str, Any]) -> list[str]:
    """The words of a study's settings that name configurations."""

    def words(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            node = list(node.values())
        if isinstance(node, list):
            for value in node:
                yield from words(value)
        elif isinstance(node, str) and node.endswith(".yaml"):
            yield node

    return list(words(dict(settings)))

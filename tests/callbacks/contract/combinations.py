"""Random combinations of strategies with random arguments."""

from __future__ import annotations

import copy
import importlib
import re
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from bertlab.callbacks.strategy import Strategy
from tests.callbacks.contract.arguments import table
from tests.callbacks.contract.fragments import FRAGMENTS, clash, content
from tests.callbacks.contract.grounds import Ground

#: What a strategy is made of: its fragment, which says the class, and its arguments.
Part = tuple[Path, dict[str, Any]]

#: Of the configurations of peft.
DROPOUT = "lora_dropout"


def class_of(fragment: Path) -> type[Strategy]:
    module, _, name = content(fragment)["class_path"].rpartition(".")
    return getattr(importlib.import_module(module), name)


def names_of(parts: list[Part]) -> set[str]:
    """The classes of strategies."""
    return {class_of(fragment).__name__ for fragment, _ in parts}


def made(part: Part) -> Strategy:
    """A new strategy."""
    fragment, arguments = part
    return class_of(fragment)(**arguments)


def without_dropout(part: Part) -> Part:
    """The same without dropout of its own, whose masks differ between ranks."""
    fragment, arguments = part
    changed = copy.deepcopy(arguments)
    if "dropout" in changed:
        changed["dropout"] = 0.0
    if hasattr(changed.get("config"), DROPOUT):
        setattr(changed["config"], DROPOUT, 0.0)
    return fragment, changed


def clashes(parts: list[Part]) -> bool:
    """Whether two of them are to be refused together."""
    found = [made(part) for part in parts]
    return any(clash(one, other) for i, one in enumerate(found) for other in found[:i])


def refused_for_arguments(message: str, parts: list[Part], like_a_user: bool) -> bool:
    """Whether strategies that go together are refused for what they are to do, or for the model, and rightly.

    Args:
        message: of the error.
        parts: that were used.
        like_a_user: whether two weights are tied.
    """
    names = names_of(parts)
    # A stage trains none of the parameters that another strategy names.
    if found := re.match(r"(\w+) and (\w+) have nothing in common in stage \d+: ", message):
        return set(found.groups()) <= names
    # Gradients of single sequences are known of layers, and of adapters that are layers; each with its own weights.
    if not message.startswith("PrivateTraining: ") or "PrivateTraining" not in names:
        return False
    if " share a trained parameter" in message:
        return like_a_user
    return "LowRankAdapters" in names and " with trained parameters of its own" in message


def combinations(ground: type[Ground]) -> st.SearchStrategy[list[Part]]:
    """Three to five strategies; four times in five such as go together."""
    rows = table(ground)
    usable = [fragment for fragment in FRAGMENTS if class_of(fragment).__name__ in rows]

    @st.composite
    def draw_parts(draw: st.DrawFn) -> list[Part]:
        size, together = draw(st.integers(3, 5)), draw(st.integers(0, 4)) > 0
        chosen: list[Part] = []
        for fragment in draw(st.permutations(usable)):
            part: Part = (fragment, draw(rows[class_of(fragment).__name__]))
            if not together or not clashes([*chosen, part]):
                chosen.append(part)
            if len(chosen) == size:
                break
        return chosen

    return draw_parts()

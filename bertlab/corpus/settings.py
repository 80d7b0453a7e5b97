"""Whether a finished store is the one that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bertlab.corpus.atomic_files import read_json
from bertlab.corpus.token_store import FORMAT_WITHOUT_TEXTS, SUMMARY, read_meta

NAMES = ("file", "hub", "package")  # keys by which an identity says what it is of


def differences(known: Any, asked: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    """The keys in which two trees of plain values differ, with both values.

    >>> differences({"a": {"b": 1}, "c": [2]}, {"a": {"b": 3}, "c": [2]})
    [('a.b', 1, 3)]
    """
    if isinstance(known, dict) and isinstance(asked, dict):
        every = [*known, *(name for name in asked if name not in known)]
        return [
            found
            for name in every
            for found in differences(known.get(name), asked.get(name), f"{key}.{name}".lstrip("."))
        ]
    if isinstance(known, list) and isinstance(asked, list) and len(known) == len(asked):
        pairs = enumerate(zip(known, asked, strict=True))
        return [found for number, (a, b) in pairs for found in differences(a, b, f"{key}[{number}]")]
    return [] if known == asked else [(key, known, asked)]


def refuse_other_store(store: Path, plan: dict[str, Any]) -> None:
    """Keep a finished store from being taken for another one.

    Args:
        store: folder of the finished store.
        plan: settings, sources, vocabulary and revision that are asked for now.

    Raises:
        ValueError: it was built with other settings, from other text, or with another vocabulary.
    """
    meta = read_meta(store)
    known: dict[str, Any] = {name: meta.get(name) for name in plan}
    found = differences(known["settings"], plan["settings"])
    advice = f"Give another name, or delete {store}."
    if found:
        key, before, now = found[0]
        key = key.replace(".init_args", "")
        more = f" (and {len(found) - 1} more keys)" if len(found) > 1 else ""
        raise ValueError(
            f"{store}: a finished store of other settings is there: {key}: {before!r} there, {now!r} asked for{more}. "
            + advice
        )
    found = differences(known["sources"], plan["sources"])
    if found:
        names = sorted(_names(known["sources"]) ^ _names(plan["sources"])) or ["the same names"]
        raise ValueError(
            f"{store}: the finished store is of other text: {found[0][0]}: {found[0][1]!r} there, {found[0][2]!r} now "
            f"({', '.join(names)}). " + advice
        )
    before, now = known["vocabulary"], plan["vocabulary"]
    if before is not None and before != now:  # older stores do not say it
        changed = [item for item in [*before, *now] if item not in before or item not in now]
        raise ValueError(
            f"{store}: the finished store is of another vocabulary: {', '.join(sorted(_names(changed)))} of "
            f"vocabulary.source is not what it was. " + advice
        )
    if known["revision"] != plan["revision"]:
        raise ValueError(f"{store}: the finished store was made by another version of the build. " + advice)
    summary = store / SUMMARY  # its absence is a damage, which is found when the store is opened
    parts = read_json(summary)["read"]["further_parts"] if summary.is_file() else 0
    if parts and meta["format"] <= FORMAT_WITHOUT_TEXTS:
        raise ValueError(
            f"{store}: the finished store was made by a version of the build that took the {parts} further parts of "
            "long texts for texts of their own, so that a random next sentence may come from the same text. "
            + advice
        )


def _names(sources: list[dict[str, Any]]) -> set[str]:
    return {str(next((source[key] for key in NAMES if key in source), source)) for source in sources}

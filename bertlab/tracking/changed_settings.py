"""With which other settings a training goes on than it had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys of two configurations whose values differ: from a key to what it was and what it is.

    Keys that one of them alone has are left out, as those of another version or of the class that was changed; but of
    lists of classes, such as callbacks, those that one alone has are named: what has come, or gone, is "there".

    Args:
        before: the configuration that a training had.
        now: the one that it goes on with.

    Examples:
        >>> before = {"max_epochs": 3, "callbacks": [{"class_path": "a.Mixout", "init_args": {"p": 0.5}}]}
        >>> changed_settings(before, before | {"max_epochs": 4})
        {'max_epochs': (3, 4)}
        >>> now = {"callbacks": [{"class_path": "a.Mixout", "init_args": {"p": 0.7}}, {"class_path": "a.RDrop"}]}
        >>> changed_settings(before, now)
        {'callbacks.Mixout.p': (0.5, 0.7), 'callbacks.RDrop': ('', 'there')}
    """
    old, new = dict(_settings("", before)), dict(_settings("", now))
    changed = {key: (value, new[key]) for key, value in old.items() if key in new and value != new[key]}
    came = {key: ("", THERE) for key, value in new.items() if value is THERE and key not in old}
    went = {key: (THERE, "") for key, value in old.items() if value is THERE and key not in new}
    return changed | came | went


#: The value of a class in a list of classes.
THERE = "there"


def _settings(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every value with its key, those in classes without `init_args` between; a list of classes by their names."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            whole = key if name == "init_args" else f"{key}.{name}" if key else str(name)
            yield from _settings(whole, inner)
    elif (
        isinstance(value, list)
        and value
        and all(isinstance(item, Mapping) and "class_path" in item for item in value)
    ):
        for item in value:
            inside = f"{key}.{item['class_path'].rpartition('.')[2]}"
            yield inside, THERE
            yield from _settings(inside, item.get("init_args") or {})
    else:
        yield key, value

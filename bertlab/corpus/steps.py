"""What the build asks of its steps. They are pickled to workers, and known by what they were constructed with."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import PurePath
from typing import Any, Protocol

from bertlab.corpus.cleaning import Rejection


class TextCleaner(Protocol):
    """Repairs a document, or rejects it; a function of its text alone."""

    def __call__(self, text: str) -> str | Rejection:
        """The cleaned text, whose line breaks are kept; or why it is rejected (the value is counted)."""
        ...


class Splitter(Protocol):
    """Divides text into sentences."""

    def split(self, text: str) -> list[str]:
        """The sentences, in order."""
        ...


def settings_of(value: Any) -> Any:
    """What a step was constructed with, as plain values: what tells one build from another.

    Of an object its class and the arguments of its constructor, which it has as attributes of the same names.

    >>> from bertlab.corpus.readers import PlainText
    >>> settings_of(PlainText("a.txt"))["init_args"]
    {'path': 'a.txt', 'document': 'file', 'errors': 'strict'}

    Raises:
        TypeError: an argument is kept under no attribute of its name.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, list | tuple | set | frozenset):
        items = [settings_of(item) for item in value]
        return sorted(items, key=str) if isinstance(value, set | frozenset) else items
    if isinstance(value, dict):
        return {str(key): settings_of(item) for key, item in value.items()}
    kind = type(value)
    names = (
        [field.name for field in dataclasses.fields(value) if field.init]
        if dataclasses.is_dataclass(value)
        else list(inspect.signature(kind).parameters)
    )
    missing = [name for name in names if not hasattr(value, name)]
    if missing:
        raise TypeError(
            f"{kind.__qualname__} does not keep {', '.join(missing)} as an attribute of the same name"
        )
    return {
        "class_path": f"{kind.__module__}.{kind.__qualname__}",
        "init_args": {name: settings_of(getattr(value, name)) for name in names},
    }

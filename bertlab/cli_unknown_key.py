"""What a class accepts, in the place of a key that it has not: jsonargparse says only that it has not."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from difflib import get_close_matches
from importlib import import_module

_CLASS = re.compile(r"class_path[= ]'([\w.]+)'")
_KEY = re.compile(r"Option '([\w.]+)' is not accepted|unrecognized arguments: --([\w.]+)")


def unknown_key(message: str) -> str:
    """The line that comes before an error message of jsonargparse: which class has no such key, and which it has.

    Args:
        message: of an error; nothing is said of those that are about something else.

    Examples:
        >>> message = "Problem with given class_path 'torch.nn.Dropout': Option 'pp' is not accepted"
        >>> unknown_key(message).strip()
        "Dropout has no key 'pp' (perhaps 'p'). Accepted: p, inplace"
    """
    found = [(path, key, keys_of(path)) for path, key in _refused(message)]
    known = [(path, key, keys) for path, key, keys in found if keys and key.split(".")[0] not in keys]
    if not known:
        return ""
    path, key, keys = known[-1]  # the innermost of nested classes
    likely = [name for name in keys if key in name or name in key] or get_close_matches(key, keys)
    perhaps = f" (perhaps {likely[0]!r})" if likely else ""
    return f"{path.rpartition('.')[2]} has no key {key!r}{perhaps}. Accepted: {', '.join(keys)}\n"


def keys_of(path: str) -> list[str]:
    """The arguments of a class; none, where there is no such class, or it does not say which it takes.

    Args:
        path: its module and name.
    """
    module, _, name = path.rpartition(".")
    try:
        parameters = inspect.signature(getattr(import_module(module), name)).parameters.values()
    except (ImportError, AttributeError, TypeError, ValueError):
        return []
    # Of an optimizer the parameters are given by the task.
    return [
        p.name
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "params"
    ]


def _refused(message: str) -> Iterator[tuple[str, str]]:
    """Each class of a message with the key that it refuses."""
    path = ""
    for line in message.splitlines():
        classes, key = _CLASS.findall(line), _KEY.search(line)
        path = classes[0] if classes else path
        if path and key:
            yield path, key[1] or key[2]

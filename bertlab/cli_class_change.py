"""What stays of the arguments of a class when a later file or flag puts another class in its place."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from jsonargparse import Namespace, _typehints

#: jsonargparse's function that says what stays, which it has no public name for, and its parameters.
FUNCTION = "discard_init_args_on_class_path_change"
PARAMETERS = ["parser_or_action", "prev_val", "value"]


@contextmanager
def without_old_defaults() -> Generator[None]:
    """Have jsonargparse leave the old class's own defaults behind, for as long as this is open.

    Where `class_path` changes, jsonargparse keeps each argument that the new class takes too, for what was written for
    all optimizers to stay. It also keeps what nobody wrote: defaults of the old class that it has filled in itself, or
    that stand in the config.yaml of a run. So AdamW's weight decay of 0.01 came to SGD, whose default is 0. Here only
    what differs from the default of the old class is kept.

    What was written and is equal to the default cannot be told from what was not: it is left behind too, and has to be
    written once more with the new class, or after it. What a task names for its own optimizer or schedule (`lr=5e-5`,
    `warmup_fraction=0.1`) counts as written.

    Raises:
        RuntimeError: this jsonargparse is not built as those known here.
    """
    original = _known(getattr(_typehints, FUNCTION, None))

    def discard(parser_or_action: Any, prev_val: Any, value: Any) -> None:
        if _changes(prev_val, value):
            _drop_defaults(prev_val)
        original(parser_or_action, prev_val, value)

    setattr(_typehints, FUNCTION, discard)
    try:
        yield
    finally:
        setattr(_typehints, FUNCTION, original)


def _known(found: Any) -> Callable[[Any, Any, Any], None]:
    if not inspect.isfunction(found) or list(inspect.signature(found).parameters) != PARAMETERS:
        raise RuntimeError(
            f"jsonargparse {version('jsonargparse')} has no {FUNCTION}({', '.join(PARAMETERS)}), so that arguments of "
            "a class could stay when another one takes its place: install the version that constraints.txt names"
        )
    return found


def _changes(prev_val: Any, value: Any) -> bool:
    """Whether a class with arguments is followed by another class."""
    if not isinstance(prev_val, Namespace) or not isinstance(prev_val.get("init_args"), Namespace):
        return False
    return prev_val.get("class_path") not in (None, value["class_path"])


def _drop_defaults(spec: Namespace) -> None:
    """Take out of a class's arguments those that are its own defaults."""
    kept = _written(spec)
    for key, _ in _items(spec.init_args):
        if key not in kept:
            spec.init_args.pop(key)


def _written(spec: Any) -> dict[str, Any]:
    """The arguments of a class, in a configuration, that are not its own defaults."""
    arguments = _items(spec.get("init_args") or {})
    if not arguments:
        return {}
    parser = _typehints.ActionTypeHint.get_class_parser(spec["class_path"])
    defaults = dict(_items(parser.get_defaults(skip_validation=True)))
    return {
        key: value
        for key, value in arguments
        if key not in defaults or _comparable(value) != _comparable(defaults[key])
    }


def _comparable(value: Any) -> Any:
    """A value as it is written, whether or not defaults are filled in; a list for a tuple."""
    if isinstance(value, Namespace | dict):
        if "class_path" in value:
            value = {"class_path": value["class_path"], "init_args": _written(value)}
        return {key: _comparable(item) for key, item in _items(value)}
    return [_comparable(item) for item in value] if isinstance(value, list | tuple) else value


def _items(values: Namespace | dict[str, Any]) -> list[tuple[str, Any]]:
    """Names and values, without those within values."""
    return list(
        values.items(branches=True, nested=False) if isinstance(values, Namespace) else values.items()
    )

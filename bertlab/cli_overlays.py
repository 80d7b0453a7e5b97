"""What a command line sets, file by file: for what jsonargparse loses without a word, and for better messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

#: Packages of which a fragment may name a class → the extra of pyproject.toml that has them.
EXTRAS = {
    "pytorch_optimizer": "optimizers",
    "schedulefree": "optimizers",
    "peft": "peft",
    "opacus": "privacy",
}


class UsageError(ValueError):
    """A command line or configuration that cannot be read."""

    exit_code = 2


def check_order(args: Sequence[str]) -> None:
    """Refuse a list that is added to first and replaced later, which would lose what was added.

    An overlay says `callbacks+:`, a base file says `callbacks:`. jsonargparse reads files and flags in the order
    in which they are given, so the base has to come first.

    Args:
        args: the command line.

    Raises:
        UsageError: an overlay or flag that adds to a list stands before a file that sets it; a file is not YAML, or
            holds no keys.
    """
    added: dict[str, str] = {}
    for origin, key, adds in _settings(args):
        if adds:
            added.setdefault(key, origin)
        elif key in added:
            raise UsageError(
                f"{added[key]} adds to {key!r}, but {origin}, which comes after it, sets the whole list, so that "
                f"the addition would be lost: give {origin} first"
            )


def files_with(message: str, args: Sequence[str]) -> str:
    """Which --config files set a key that an error message names, as an addition to the message; maybe none."""
    found = [
        path
        for path, content in _files(args)
        if any(f"{quote}{key}{quote}" in message for key in _keys("", content) for quote in ("'", '"'))
    ]
    return f" (in {', '.join(found)})" if found else ""


def without_flags(args: Sequence[str], names: Sequence[str]) -> list[str]:
    """A command line without some flags and their values.

    Examples:
        >>> without_flags(["--config", "a.yaml", "--steps", "9", "--lr_max=1"], ["steps", "lr_max"])
        ['--config', 'a.yaml']
    """
    kept: list[str] = []
    value_follows = False
    for item in args:
        flag, equals, _ = item.partition("=")
        if value_follows:
            value_follows = False
        elif flag.startswith("--") and flag[2:] in names:
            value_follows = not equals
        else:
            kept.append(item)
    return kept


def missing_extra(error: BaseException) -> str:
    """What led to an error, and how to install it, where that is a package that an extra has; else nothing.

    The messages of jsonargparse do not always say it: the errors that they came from do.
    """
    chain = [error]
    for link in chain:
        package = (link.name or "").split(".")[0] if isinstance(link, ModuleNotFoundError) else ""
        if package in EXTRAS:
            return f"{package} is needed and not installed: pip install 'bertlab[{EXTRAS[package]}]'\n"
        chain += [
            other for other in (link.__cause__, link.__context__) if other is not None and other not in chain
        ]
    return ""


def _files(args: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """The --config files of a command line, and what they hold."""
    for origin, path in _flags(args):
        if origin in {"--config", "-c"} and Path(path).is_file():
            try:
                content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
            except (yaml.YAMLError, UnicodeDecodeError) as error:
                raise UsageError(f"{path} is not a YAML file: {error}") from error
            if not isinstance(content, dict):
                held = "nothing" if content is None else f"a {type(content).__name__}"
                raise UsageError(
                    f"{path} is no configuration: it holds {held}. Accepted: keys such as `trainer:`"
                )
            yield path, content


def _flags(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Flags and their values, whether written with = or as the next word."""
    for item, following in zip(args, [*args[1:], ""], strict=True):
        flag, equals, value = item.partition("=")
        if flag.startswith("-"):
            yield flag, value if equals else following


def _settings(args: Sequence[str]) -> Iterator[tuple[str, str, bool]]:
    """Where, which key, and whether it is added to, for everything a command line sets to lists, in order."""
    files = iter(_files(args))
    for flag, value in _flags(args):
        if flag in {"--config", "-c"} and Path(value).is_file():
            path, content = next(files)
            for key, adds in _lists("", content):
                yield path, key, adds
        elif flag.endswith("+"):
            yield f"{flag}={value}", flag.lstrip("-")[:-1], True


def _lists(prefix: str, node: Any) -> Iterator[tuple[str, bool]]:
    if isinstance(node, dict):
        for key, value in node.items():
            name = f"{prefix}{key}"
            if name.endswith("+"):
                yield name[:-1], True
            elif isinstance(value, list):
                yield name, False
            else:
                yield from _lists(f"{name}.", value)


def _keys(prefix: str, node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from _keys(f"{prefix}{key}.", value)

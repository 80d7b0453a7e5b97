"""A line of a JSON Lines file, for whoever reads tables or corpora."""

from __future__ import annotations

import json
from typing import Any


def json_record(line: str) -> Any:
    """The value of a line. NaN, which is no JSON, is null: Python and pandas write it for what is missing.

    Raises:
        ValueError: it is not JSON; or too deep, or a number has too many digits.

    Examples:
        >>> json_record('{"text": NaN, "words": ["a", NaN], "weight": Infinity}')
        {'text': None, 'words': ['a', None], 'weight': inf}
    """
    try:
        return json.loads(line, parse_constant=_constant)
    except RecursionError as error:
        raise ValueError(str(error)) from error


def _constant(name: str) -> float | None:
    """What NaN, Infinity and -Infinity stand for."""
    return None if name == "NaN" else float(name)

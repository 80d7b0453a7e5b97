"""Whose data it is: errors and names of several data modules in one."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

KEY = "data.init_args.tasks"


@contextmanager
def of_task(name: str) -> Generator[None]:
    """Say in a ValueError from within which task it is of.

    >>> with of_task("spam"):
    ...     raise ValueError("batch_size: 0 is not a positive number.")
    Traceback (most recent call last):
    ...
    ValueError: data.init_args.tasks.spam: batch_size: 0 is not a positive number.
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{KEY}.{name}: {error}") from error

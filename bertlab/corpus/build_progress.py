"""Bars for the stages of a build."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class BuildProgress:
    """A bar for each stage, on the error output, so that what a command prints stays readable by others.

    Args:
        shown: nothing is shown otherwise, nor where there is no terminal.
    """

    def __init__(self, shown: bool) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not (shown and console.is_terminal),
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    @contextmanager
    def bar(self, title: str, total: int | None) -> Generator[Callable[[int], None]]:
        """A bar; yields what is told how much more is done.

        Args:
            title: of the stage.
            total: shards; None if it is not known how much there is to do.
        """
        task = self._progress.add_task(title, total=total)
        yield lambda more: self._progress.advance(task, more)
        self._progress.update(task, total=self._progress.tasks[task].completed or 1)
        if not self._progress.tasks[task].completed:
            self._progress.advance(task)

"""MetricsCsv: every logged number as a row of one table."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from bertlab.tracking.atomic import atomic_file

_FIRST = ["step", "epoch"]


class MetricsCsv(Logger):
    """metrics.csv: a row for each time that metrics were logged, a column for each key, empty where not logged.

    Rows are appended as they come, so that a kill loses nothing that was logged; a new key rewrites the file
    with one column more. A resumed run drops the rows of steps that its checkpoint has not seen, and ends
    with the file of a run that was never killed.

    Args:
        path: the file; an existing one is continued.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self._path = Path(path)
        self._columns: list[str] | None = None

    @property
    def name(self) -> str:
        """Loggers have a name."""
        return "metrics.csv"

    @property
    def version(self) -> str:
        """Loggers have a version; the run directory is versioned, not the file."""
        return ""

    @property
    def save_dir(self) -> str:
        """The folder of the file."""
        return str(self._path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: they are in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row.

        Args:
            metrics: flat keys and numbers.
            step: optimizer steps done before the step, or before the evaluation, that gave them.
        """
        row = {"step": step, **metrics}
        if self._columns is None:
            self._columns = self._read()[0]
        new = [key for key in dict.fromkeys([*_FIRST, *metrics]) if key not in self._columns]
        if new:
            _, rows = self._read()
            self._columns = [*self._columns, *new]
            self._rewrite(rows)
        self._append(row)

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Drop what was logged for steps that a checkpoint has not seen.

        Args:
            step: optimizer steps done when the checkpoint was saved.
        """
        if not self._path.exists():
            return
        columns, rows = self._read()
        kept = [row for row in rows if row["step"] and int(row["step"]) < step]
        # A column that only dropped rows had is made again when its key is logged again.
        self._columns = [key for key in columns if key in _FIRST or any(row[key] for row in kept)]
        self._rewrite(kept)

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        """The columns and the whole rows; a last line that a kill has cut off is dropped."""
        if not self._path.exists():
            return [], []
        text = self._path.read_text(encoding="utf-8")
        lines = text.splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines.pop()
        reader = csv.DictReader(lines)
        return list(reader.fieldnames or []), list(reader)

    def _append(self, row: Mapping[str, Any]) -> None:
        assert self._columns is not None
        line = io.StringIO()
        writer = csv.DictWriter(line, self._columns, restval="", lineterminator="\n")
        writer.writerow(row)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, line.getvalue().encode())
        finally:
            os.close(descriptor)

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        assert self._columns is not None
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        with atomic_file(self._path) as file:
            file.write(text.getvalue().encode())

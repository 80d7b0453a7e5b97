"""How a command line of Lightning's verbs is parsed and run: no abbreviated flags, and errors that name their file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from bertlab.cli_class_change import without_old_defaults
from bertlab.cli_overlays import UsageError, check_order, files_with, missing_extra
from bertlab.cli_unknown_key import unknown_key
from bertlab.tracking.run_choice import forget_run


def run_cli(command: Callable[[list[str], ExitStack], object], args: list[str]) -> None:
    """Parse and run a command line, with errors that name the file they come from."""
    check_order(args)
    _quiet()
    with ExitStack() as at_end:
        at_end.enter_context(without_old_defaults())
        at_end.callback(forget_run)
        try:
            command(args, at_end)
        except UsageError as error:
            message = str(error)
            # What matters first: jsonargparse calls a file that names what is missing a loop, and lists all it tried.
            first = missing_extra(error) or unknown_key(message)
            raise UsageError(f"{first}{message}{files_with(message, args)}") from error


def _quiet() -> None:
    """Keep advertisements, and what only developers of Lightning can change, out of the output."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_advertisement)
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")


def _no_advertisement(record: logging.LogRecord) -> bool:
    return "💡 Tip" not in record.getMessage()


class Parser(LightningArgumentParser):
    """Takes no abbreviated flags, and keeps the targets of links in what it prints, which so is whole."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what is wrong with the command line, for `run_cli` to name its file.

        Raises:
            UsageError: always; of a parser of values jsonargparse's own error.
        """
        if not self.exit_on_error:  # parsers of values, whose errors jsonargparse collects
            super().error(message, ex)
        raise UsageError(message) from ex

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """The configuration as YAML, with the targets of links."""
        return super().dump(*args, **{**kwargs, "skip_link_targets": False})

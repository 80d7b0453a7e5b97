"""corpus: from raw text to a token store."""

from __future__ import annotations

from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from bertlab.cli_class_change import without_old_defaults
from bertlab.cli_overlays import UsageError, files_with
from bertlab.corpus.build import CorpusBuild


class _Parser(ArgumentParser):
    """Raises what is wrong with a command line, instead of printing it and ending the process."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:  # parsers of values, whose errors jsonargparse collects
            super().error(message, ex)
        raise UsageError(message) from ex


def run(args: list[str]) -> None:
    """Do what a command line says; the first word of it is the verb."""
    build = _build(args)
    store, built = build.run()
    numbers = (
        f"{len(store.document_starts) - 1:,} documents, {len(store.sentence_starts) - 1:,} sentences, "
        f"{len(store.tokens):,} tokens, vocabulary {store.vocabulary_size:,}"
    )
    if built:
        print(f"{build.store}: {numbers}. Summary: {build.store / 'report.html'}")
    else:
        print(f"{build.store} is built already, with these settings and from this text: {numbers}.")


def _build(args: list[str]) -> CorpusBuild:
    parser: Any = _Parser(prog="bertlab corpus", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--config", action="config", help="YAML file; several are laid over each other in order"
    )
    parser.add_class_arguments(CorpusBuild, None, fail_untyped=True)
    try:
        with without_old_defaults():
            config = parser.parse_args(args[1:])
        config.pop("config", None)
        instantiate = (
            getattr(parser, "instantiate", None) or parser.instantiate_classes
        )  # its name before 4.49
        return CorpusBuild(**instantiate(config))
    except UsageError as error:
        raise UsageError(f"{error}{files_with(str(error), args)}") from error

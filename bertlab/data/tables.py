"""From a `source:` to the tables of its splits: a file, a folder, files by split, a packaged set, or the hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import pyarrow as pa

from bertlab.data.packaged_tables import packaged_tables
from bertlab.data.readers import FORMATS, read_file
from bertlab.sources.catalogue import PREFIX

SPLITS = ("train", "validation", "test")
ALIASES = {"train": ("train",), "validation": ("validation", "val", "valid", "dev"), "test": ("test",)}


@dataclass(frozen=True)
class Files:
    """Which files hold the rows, and how they are read.

    Attributes:
        endings: of their names.
        read: gives the rows of one.
        packaged: what kind of packaged data sets they stand beside.
    """

    endings: tuple[str, ...]
    read: Callable[[Path], pa.Table]
    packaged: Literal["texts", "words"]


TEXTS = Files(FORMATS, read_file, "texts")


class Split:
    """The rows of one split, and how to name it in a message.

    Attributes:
        table: the rows.
        where: file or source, for messages.
        class_names: names of integer labels by column, where the source declares them (hub).
    """

    def __init__(
        self, table: pa.Table, where: str, class_names: Mapping[str, list[str]] | None = None
    ) -> None:
        self.table = table
        self.where = where
        self.class_names = dict(class_names or {})


def load_splits(
    source: str | None,
    files: Mapping[str, str] | None,
    subset: str | None = None,
    revision: str | None = None,
    split_names: Mapping[str, str] | None = None,
    kind: Files = TEXTS,
) -> dict[str, Split]:
    """Read what there is; a split that the source lacks is absent (and may be made of `train`).

    Args:
        source: a file, a folder of files named after the splits, `packaged:<name>`, or a hub id.
        files: file of each split, instead of `source`.
        subset: configuration of a hub data set, e.g. `sst2` of `nyu-mll/glue`.
        revision: commit, tag or branch of a hub data set.
        split_names: which split of a hub data set serves as train, validation and test.
        kind: of files to read.

    Raises:
        ValueError: arguments that clash, or unknown split names.
        FileNotFoundError: no such file, folder or hub data set.
    """
    if (source is None) == (files is None):
        given = "neither is" if source is None else "both are"
        raise ValueError(f"source, files: {given} given; exactly one of them is accepted.")
    _check_split_names("files", files)
    _check_split_names("split_names", split_names)
    is_hub = source is not None and _is_hub(source, kind)
    for name, value in (("subset", subset), ("revision", revision), ("split_names", split_names)):
        if value is not None and not is_hub:
            raise ValueError(f"{name}: {value!r} is only for a hub data set; source is {source or files}.")
    if files is not None:
        return {name: Split(kind.read(Path(path).expanduser()), path) for name, path in files.items()}
    assert source is not None
    if source.startswith(PREFIX):
        tables = packaged_tables(source, kind.packaged)
        return {
            name: Split(table, f"{source} {name}" if tables.keys() != {"train"} else source)
            for name, table in tables.items()
        }
    if is_hub:
        return _from_hub(source, subset, revision, split_names, kind)
    path = Path(source).expanduser()
    return _from_folder(path, kind) if path.is_dir() else {"train": Split(kind.read(path), source)}


def _check_split_names(key: str, given: Mapping[str, str] | None) -> None:
    unknown = sorted(set(given or ()) - set(SPLITS))
    if unknown:
        raise ValueError(f"{key}: {', '.join(unknown)} is not a split. Accepted: {', '.join(SPLITS)}.")
    if given is not None and "train" not in given:
        raise ValueError(f"{key}: there is no train among {', '.join(given) or 'nothing'}.")


def _is_hub(source: str, kind: Files) -> bool:
    """A hub id is `name` or `owner/name`, exists on no disk, and does not look like a file."""
    if source.startswith(PREFIX) or Path(source).expanduser().exists():
        return False
    return (
        not source.startswith((".", "/", "~"))
        and source.count("/") <= 1
        and Path(source).suffix not in kind.endings
    )


def _from_folder(folder: Path, kind: Files) -> dict[str, Split]:
    splits: dict[str, Split] = {}
    for name, aliases in ALIASES.items():
        found = sorted(
            path for path in folder.iterdir() if path.stem in aliases and path.suffix in kind.endings
        )
        if len(found) > 1:
            raise ValueError(
                f"{folder}: more than one file for {name}: {', '.join(path.name for path in found)}."
            )
        if found:
            splits[name] = Split(kind.read(found[0]), str(found[0]))
    if "train" not in splits:
        seen = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
        raise FileNotFoundError(
            f"{folder}: no file train with one of the endings {', '.join(kind.endings)}; the folder holds {seen}."
        )
    return splits


def _from_hub(
    source: str,
    subset: str | None,
    revision: str | None,
    split_names: Mapping[str, str] | None,
    kind: Files,
) -> dict[str, Split]:
    import datasets

    try:
        loaded = cast(Any, datasets.load_dataset(source, subset, revision=revision))
    except (FileNotFoundError, ConnectionError, ValueError, OSError) as error:
        raise FileNotFoundError(
            f"source: {source} is neither a file or folder here nor a data set that the hub gives: {error}. "
            f"Accepted: a file ({', '.join(kind.endings)}), a folder, {PREFIX}<name>, or a hub id with a network."
        ) from error
    wanted = split_names or {name: name for name in SPLITS if name in loaded}
    missing = sorted(set(wanted.values()) - set(loaded))
    if missing or "train" not in wanted:
        raise ValueError(
            f"split_names: {source} has no split {', '.join(missing) or 'train'}; it has {', '.join(loaded)}."
        )
    return {name: _hub_split(loaded[hub_name], f"{source} ({hub_name})") for name, hub_name in wanted.items()}


def _hub_split(dataset: Any, where: str) -> Split:
    # Of a column of lists, the feature inside names the numbers.
    inside = {column: getattr(feature, "feature", feature) for column, feature in dataset.features.items()}
    names = {column: list(feature.names) for column, feature in inside.items() if hasattr(feature, "names")}
    return Split(dataset.with_format("arrow")[:], where, names)

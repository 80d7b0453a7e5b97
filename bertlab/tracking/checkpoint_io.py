"""AtomicCheckpointIO: checkpoints that are whole or absent, and that cannot run code."""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from bertlab.tracking.atomic import atomic_file

#: What a checkpoint holds beside tensors and containers.
_PLAIN = {int, float, complex, str, bytes, bool, type(None)}
#: Why checkpoints of distributed training, a file of each rank, are not taken.
NO_FOLDER = (
    "a checkpoint that is a folder is refused: its .metadata is a pickle, so loading it would run code of whoever made "
    "it, and saving it overwrites the one before"
)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there; reads tensors and plain containers only.

    A run killed while it saves keeps the checkpoint before. A pickle that wants to call a function is refused
    without being executed (`torch.load(weights_only=True)`), whatever the caller asked for.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: tensors and plain Python containers.
            path: file to make or to replace.
            storage_options: not supported.

        Raises:
            TypeError: `storage_options` are given; or something could not be read again, being more than that: it is
                named, and nothing is written.
            OSError: the disk is full or the folder cannot be written; the file that was there still is.
        """
        if storage_options is not None:
            raise TypeError("checkpoints are local files: storage_options are not supported")
        check_plain(checkpoint)
        try:
            with atomic_file(path) as file:
                torch.save(checkpoint, file)
        except RuntimeError as error:
            # torch's zip writer turns a write error (disk full) into a RuntimeError about its own state.
            cause = error.__context__ if isinstance(error.__context__, OSError) else error
            raise OSError(
                f"the checkpoint {path} could not be written ({cause}); the one before it is unharmed. "
                "Is the disk full?"
            ) from error

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any | None = "cpu",
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint; see `read_checkpoint`.

        Args:
            path: the file.
            map_location: where tensors go.
            weights_only: anything but a whole pickle: that is refused always.
        """
        return read_checkpoint(path, map_location=map_location)


def check_plain(value: Any, place: str = "checkpoint") -> None:
    """Refuse what `read_checkpoint` would refuse, before it is written.

    Args:
        value: to be saved.
        place: where it stands, for the message.

    Raises:
        TypeError: it holds more than tensors and plain Python containers and values.

    >>> check_plain({"callbacks": {"Mine": {"best": 0.5}}})
    >>> check_plain({"callbacks": {"Mine": {"best": object()}}})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    TypeError: checkpoint['callbacks']['Mine']['best'] is a builtins.object, which a checkpoint cannot hold: ...
    """
    if type(value) in _PLAIN or isinstance(value, Tensor):
        return
    if isinstance(value, dict) and type(value) in (dict, OrderedDict):
        for key, item in value.items():
            check_plain(key, f"a key of {place}")
            check_plain(item, f"{place}[{key!r}]")
    elif type(value) in (list, tuple, set):
        for index, item in enumerate(value):
            check_plain(item, f"{place}[{index}]")
    elif not _can_be_read(value):
        kind = f"{type(value).__module__}.{type(value).__name__}"
        raise TypeError(
            f"{place} is a {kind}, which a checkpoint cannot hold: a state_dict gives tensors and plain values (int, "
            "float, str, bool, None, lists, tuples and dictionaries of them)"
        )


def _can_be_read(value: Any) -> bool:
    """Whether torch reads it without calling anything that it does not know: its own sizes and types, for instance."""
    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except (pickle.PicklingError, pickle.UnpicklingError, AttributeError, TypeError):
        return False
    return True


def read_checkpoint(path: str | Path, map_location: Any | None = "cpu", mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint without executing anything that it may contain.

    Args:
        path: the file.
        map_location: where tensors go.
        mmap: read tensors only when they are used; for a look at the rest.

    Returns:
        The checkpoint.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a folder, a truncated file, one that wants to run code, or no checkpoint at all.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"the checkpoint {path}: {NO_FOLDER}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    if not zipfile.is_zipfile(path):
        _refuse_legacy(path)
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"the checkpoint {path} holds more than tensors and plain values, so loading it would run code of "
            f"whoever made it: refused{_wanted(error)}"
        ) from error
    except (RuntimeError, EOFError, OSError, KeyError) as error:
        raise ValueError(
            f"the checkpoint {path} is damaged or truncated ({path.stat().st_size:,} bytes): {_first_line(error)}"
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ValueError(
            f"{path} is not a checkpoint of a run: it holds no 'state_dict' "
            f"(found {sorted(map(str, checkpoint)) if isinstance(checkpoint, dict) else type(checkpoint).__name__})"
        )
    return checkpoint


def _refuse_legacy(path: Path) -> None:
    """Name what is wrong with a file that is not in torch's zip format: cut off, a bare pickle, another file."""
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"PK\x03\x04":
        raise ValueError(
            f"the checkpoint {path} is truncated: {path.stat().st_size:,} bytes, and its end is missing. "
            "Take an earlier one"
        )
    kind = (
        "a bare pickle, which could run code when it is loaded" if start[:1] == b"\x80" else "no checkpoint"
    )
    raise ValueError(f"{path} is {kind}: refused")


def _wanted(error: pickle.UnpicklingError) -> str:
    """What a pickle wants to call, as an addition to a message; torch says how to let it, too."""
    found = re.search(r"GLOBAL (\S+) (?:was not an allowed global|whose module)", str(error))
    return f" (it names {found[1]})" if found else ""


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

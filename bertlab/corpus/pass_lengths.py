"""How many examples the passes over a corpus have, kept from process to process and from run to run."""

from __future__ import annotations

import hashlib
import inspect
import json
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bertlab.corpus import pairs, random_numbers
from bertlab.corpus.pairs import PairRules
from bertlab.corpus.token_store import ARRAYS, TokenStore, read_meta
from bertlab.sources.cache import cache_folder

RECORD = struct.Struct("<QQ")  # a length, and its complement, by which a record that is not whole is known
ONES = (1 << 64) - 1


class PassLengths:
    """Lengths of the passes that were counted to their end.

    Where an example of a stream lies follows from the lengths of all passes before it, and each costs to go through
    the corpus. So they are kept in a file: a resumed run, and a worker process of a new epoch, find them there. They
    are a function of what `lengths_file` names the file by, so whoever writes at the same time writes the same; and
    each has a place of its own in the file. A file that cannot be read or written costs another count, no more.
    Checkpoints have them too (`before`), for a machine whose cache does not.

    Args:
        file: for one stream; None: they are kept in the memory alone.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._known: dict[int, int] = {}

    def get(self, epoch: int) -> int | None:
        """How many examples a pass has; None: it was never counted to its end."""
        if epoch not in self._known and self._file is not None:
            length = _read(self._file, epoch)
            if length is not None:
                self._known[epoch] = length
        return self._known.get(epoch)

    def before(self, number: int) -> list[int]:
        """Lengths of the passes, from the first, that end before an example of this number, as far as they are known.

        Where all examples up to that one were made, they are known, and no more than these are told: whatever else was
        counted ahead, the same.
        """
        found: list[int] = []
        end = 0
        while (length := self.get(len(found))) is not None and end + length < number:
            found.append(length)
            end += length
        return found

    def keep(self, epoch: int, length: int) -> None:
        """Remember how many examples a pass has."""
        self._known[epoch] = length
        if self._file is not None:
            _write(self._file, epoch, length)


def lengths_file(
    store: TokenStore, documents: npt.NDArray[np.int64], rules: PairRules, seed: int, stream: int
) -> Path:
    """The file of a stream's lengths in the cache folder, named by all that they depend on.

    Args:
        store: whose texts they are of.
        documents: (n,) that the stream takes.
        rules: of the examples.
        seed: of the examples.
        stream: its number.
    """
    files = read_meta(store.folder)["files"]
    depends_on = {
        "starts": [files[ARRAYS[name][0]]["sha256"] for name in ("sentence_starts", "document_starts")],
        "documents": hashlib.sha256(documents.astype("<i8").tobytes()).hexdigest(),
        "rules": list(rules),
        "stream": [seed, stream],
        "code": [inspect.getsource(module) for module in (pairs, random_numbers)],
    }
    key = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()
    return cache_folder() / "pass_lengths" / key[:40]


def _read(file: Path, epoch: int) -> int | None:
    try:
        with file.open("rb") as opened:
            opened.seek(epoch * RECORD.size)
            record = opened.read(RECORD.size)
    except OSError:
        return None
    if len(record) < RECORD.size:
        return None
    length, complement = RECORD.unpack(record)
    return length if length ^ complement == ONES else None


def _write(file: Path, epoch: int, length: int) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        with file.open("r+b") as opened:
            opened.seek(epoch * RECORD.size)
            opened.write(RECORD.pack(length, length ^ ONES))
    except OSError:
        return

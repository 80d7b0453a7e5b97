"""The token store: a tokenised corpus as flat arrays on disk, with the tokenizer that made it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bertlab.corpus.tokenizer_identity import differing_pieces, fingerprint, identity_hash
from bertlab.sources.cache import cache_folder

FORMAT = 3  # raise when what is stored changes; a store of a newer format is refused
FORMAT_WITHOUT_TEXTS = 2  # of a store none of whose texts was divided: older versions of bertlab read it too
META = "meta.json"
META_SHA256 = "meta_sha256"  # of the rest of meta.json; older stores have none
SUMMARY = "summary.json"
TOKENIZER = "tokenizer"
#: The arrays: attribute of the store → (file, dtype; None: of the tokens, as meta.json says).
ARRAYS = {
    "tokens": ("tokens.bin", None),
    "sentence_starts": ("sentence_starts.bin", "<i8"),
    "document_starts": ("document_starts.bin", "<i8"),
}

WORDS = "document_words.bin"  # "<u4"; since format 2
TEXTS = "document_texts.bin"  # "<i8"; in format 3


class StoreError(ValueError):
    """A folder is no token store, or a damaged one, or one that this bertlab cannot read."""


@dataclass(frozen=True, eq=False)
class TokenStore:
    """A tokenised corpus, opened read-only and memory-mapped: opening is immediate, whatever its size.

    No sentence and no document in it is empty. Pickled, it is its folder: a worker process opens it anew.

    Attributes:
        folder: where it lies.
        tokens: (N,) uint16 or uint32 word-piece ids, no special tokens.
        sentence_starts: (sentences + 1,) int64 offsets into tokens; the last is N.
        document_starts: (documents + 1,) int64 offsets into sentences; the last is the number of sentences.
        vocabulary_size: ids are below it.
        document_words: (documents,) uint32 white-space separated words of each document, which perplexity per word is
            reckoned by; None in stores of format 1, which did not hold them.
        document_texts: (documents,) int64, ascending: number of the text that each document is of, since long texts are
            divided into several documents; None where none was, or the store is of an older format, which did not tell.
        tokenizer_hash: of the tokenizer that made it; see `bertlab.corpus.tokenizer_identity`.
        content_hash: of its tokens, sentences, documents and texts, by their checksums.
        settings: how it was built.
    """

    folder: Path
    tokens: np.ndarray
    sentence_starts: np.ndarray
    document_starts: np.ndarray
    vocabulary_size: int
    document_words: np.ndarray | None
    document_texts: np.ndarray | None
    tokenizer_hash: str
    content_hash: str
    settings: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path, checksums: Literal["once", "always", "never"] = "once") -> TokenStore:
        """Open a store, after checking that it is whole.

        Args:
            folder: of the store.
            checksums: whether to read everything and compare sha256: `once` on this machine for each state of the
                files (by size and time of change, remembered in bertlab's cache folder), `always`, or `never`. Version
                and sizes are checked in any case.

        Raises:
            FileNotFoundError: there is no such folder.
            StoreError: it is not a store, of a newer format, or damaged; the message names the file.
        """
        folder = Path(folder).expanduser().absolute()
        meta = read_meta(folder)
        _check_sizes(folder, meta)
        if checksums != "never":
            _check_content(folder, meta, always=checksums == "always")
        store = cls(
            folder,
            **{name: _map(folder / file, dtype or meta["dtype"]) for name, (file, dtype) in ARRAYS.items()},
            vocabulary_size=meta["vocabulary_size"],
            document_words=_map(folder / WORDS, "<u4") if meta["format"] > 1 else None,
            document_texts=_map(folder / TEXTS, "<i8") if meta["format"] >= FORMAT else None,
            tokenizer_hash=meta["tokenizer_hash"],
            content_hash=_content_hash(meta["files"]),
            settings=meta["settings"],
        )
        _check_ends(store)
        return store

    @property
    def tokenizer_folder(self) -> Path:
        """The folder inside the store that `AutoTokenizer.from_pretrained` loads."""
        return self.folder / TOKENIZER

    def difference(self, tokenizer: Any) -> str:
        """In what a tokenizer is another one than that of this store, in words; empty: it gives the same ids.

        Args:
            tokenizer: a fast tokenizer of transformers, or one of `tokenizers`.

        Raises:
            TypeError: it is neither.
        """
        given = fingerprint(tokenizer)
        if identity_hash(given) == self.tokenizer_hash:
            return ""
        from tokenizers import Tokenizer

        own = fingerprint(Tokenizer.from_file(str(self.tokenizer_folder / "tokenizer.json")))
        return differing_pieces(own, given)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.folder,)


def _reopen(folder: Path) -> TokenStore:
    return TokenStore.open(folder, checksums="never")


def read_meta(folder: Path) -> dict[str, Any]:
    """meta.json of a store, of a format that is known here.

    Raises:
        FileNotFoundError: there is no such folder.
        StoreError: there is no readable meta.json, or of a newer format.
    """
    path = folder / META
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: no such token store. `bertlab corpus --config configs/corpus/news.yaml` builds one."
        )
    if not path.is_file():
        raise StoreError(f"{folder} is not a token store: it has no {META}.")
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        version = int(meta["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: damaged: {error!r}. Build the corpus again.") from error
    if version > FORMAT:
        raise StoreError(
            f"{path}: the store is of format {version}, made by a newer bertlab ({meta.get('bertlab')}); this one "
            f"reads up to format {FORMAT}. Upgrade bertlab, or build the corpus again."
        )
    if meta.get(META_SHA256, known := meta_sha256(meta)) != known:
        raise StoreError(
            f"{path}: damaged: its sha256 is not what it says. Build the corpus again, or copy it anew."
        )
    return meta


def meta_sha256(meta: dict[str, Any]) -> str:
    """The sha256 of what meta.json says, but for this sum itself."""
    rest = json.loads(json.dumps({name: value for name, value in meta.items() if name != META_SHA256}))
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _check_sizes(folder: Path, meta: dict[str, Any]) -> None:
    for name, known in _known_files(folder, meta).items():
        path = folder / name
        if not path.is_file():
            raise StoreError(
                f"{path}: missing. The store is damaged: build the corpus again, or copy it whole."
            )
        if path.stat().st_size != known["bytes"]:
            raise StoreError(
                f"{path}: {path.stat().st_size} bytes, expected {known['bytes']}. The store is damaged: build the "
                "corpus again, or copy it whole."
            )


def _known_files(folder: Path, meta: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What meta.json says about each file, which has to be all that a store needs."""
    try:
        known = {
            name: {"bytes": int(of["bytes"]), "sha256": of["sha256"]} for name, of in meta["files"].items()
        }
        counts = meta["counts"]
        width = {"<u2": 2, "<u4": 4}[meta["dtype"]]
        expected = {
            "tokens.bin": width * counts["tokens"],
            "sentence_starts.bin": 8 * (counts["sentences"] + 1),
            "document_starts.bin": 8 * (counts["documents"] + 1),
        }
        if meta["format"] > 1:
            expected[WORDS] = 4 * counts["documents"]
        if meta["format"] >= FORMAT:
            expected[TEXTS] = 8 * counts["documents"]
        wrong = [name for name, size in expected.items() if known[name]["bytes"] != size]
        needed = (meta["vocabulary_size"], counts["words"], meta["settings"], meta["tokenizer_hash"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise StoreError(f"{folder / META}: damaged: {error!r}. Build the corpus again.") from error
    if wrong or None in needed:
        raise StoreError(f"{folder / META}: damaged: counts do not fit the sizes of {', '.join(wrong)}.")
    return known


def _content_hash(files: dict[str, dict[str, Any]]) -> str:
    names = (*(file for file, _ in ARRAYS.values()), TEXTS)
    held = {name: files[name]["sha256"] for name in names if name in files}
    return hashlib.sha256(json.dumps(held).encode()).hexdigest()


def _check_content(folder: Path, meta: dict[str, Any], always: bool) -> None:
    state = {
        name: [(folder / name).stat().st_size, (folder / name).stat().st_mtime_ns, of["sha256"]]
        for name, of in sorted(meta["files"].items())
    }
    key = hashlib.sha256(json.dumps([str(folder), state]).encode()).hexdigest()
    mark = cache_folder() / "verified_stores" / key[:40]
    if mark.exists() and not always:
        return
    for name, of in meta["files"].items():
        found = file_sha256(folder / name)
        if found != of["sha256"]:
            raise StoreError(
                f"{folder / name}: sha256 {found}, expected {of['sha256']}. The store is damaged: build the corpus "
                "again, or copy it anew."
            )
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError:
        return  # a cache that cannot be written costs another check next time, no more


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _map(path: Path, dtype: str) -> np.ndarray:
    # As a plain array: slices of np.memmap cost several times those of an array.
    return np.asarray(np.memmap(path, dtype=np.dtype(dtype), mode="r"))


def _check_ends(store: TokenStore) -> None:
    """The arrays fit each other."""
    for name, starts, total in (
        ("sentence_starts", store.sentence_starts, len(store.tokens)),
        ("document_starts", store.document_starts, len(store.sentence_starts) - 1),
    ):
        if starts[0] != 0 or starts[-1] != total:
            raise StoreError(
                f"{store.folder / ARRAYS[name][0]}: runs from {starts[0]} to {starts[-1]}, expected 0 to {total}. The "
                "store is damaged: build the corpus again."
            )

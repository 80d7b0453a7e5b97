"""Lines of text files that may be larger than the memory, decoded with errors that name file and byte."""

from __future__ import annotations

import bz2
import codecs
import glob
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Literal, cast

Errors = Literal["strict", "replace"]

BLOCK_BYTES = 1 << 20
_OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def files_of(paths: str | Sequence[str]) -> list[Path]:
    """The files that `path:` names, in a fixed order.

    Args:
        paths: a file, a folder (all its files, hidden ones left out), or a pattern such as `texts/*.txt`; or a
            list of such.

    Raises:
        FileNotFoundError: one of them names no file.

    >>> files_of(__file__)[0].name
    'text_stream.py'
    """
    found: list[Path] = []
    for item in [paths] if isinstance(paths, str) else paths:
        path = Path(item).expanduser()
        if path.is_dir():
            some = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
        elif path.is_file():
            some = [path]
        else:
            some = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())  # noqa: PTH207  (absolute patterns)
        if not some:
            raise FileNotFoundError(
                f"path: {item} names no file. Accepted: a file, a folder with files in it, or a pattern such as "
                "texts/*.txt (relative to the folder one works in)."
            )
        found += some
    return found


def lines(path: Path, errors: Errors = "strict", limit: int = 1_000_000) -> Iterator[str]:
    r"""The lines of a UTF-8 file, without their ends, in blocks: a file of any size in the memory of a few lines.

    `\n`, `\r\n` and `\r` end a line; a byte order mark is dropped; `.gz`, `.bz2` and `.xz` are unpacked.

    Args:
        path: the file.
        errors: what to do with bytes that are not UTF-8: `strict` is an error, `replace` makes them U+FFFD.
        limit: characters of a line at most; a longer one comes in pieces, cut at a space where there is one.

    Raises:
        ValueError: the file is empty, binary, or not UTF-8; the message names the byte.
    """
    return (piece for _, piece in line_parts(path, errors, limit))


def line_parts(path: Path, errors: Errors, limit: int) -> Iterator[tuple[int, str]]:
    """As `lines`, each with the number of the piece that it is of its line: 0 where a line begins."""
    part = 0
    # Of a line that has no end yet; joined once, so that a long line costs linear time.
    pending: list[str] = []
    length = 0
    for block in _decoded(path, errors):
        first, *rest = block.split("\n")
        pending.append(first)
        length += len(first)
        if rest:
            for line in ("".join(pending), *rest[:-1]):
                yield from enumerate(_pieces(line, limit), start=part)
                part = 0
            pending, length = [rest[-1]], len(rest[-1])
        elif length > limit:
            *whole, last = _pieces("".join(pending), limit)
            yield from enumerate(whole, start=part)
            part += len(whole)
            pending, length = [last], len(last)
    if length:
        yield from enumerate(_pieces("".join(pending), limit), start=part)


def _pieces(text: str, limit: int) -> Iterator[str]:
    """The text in pieces of at most `limit` characters, whole words where words are shorter than half of it."""
    start = 0
    while len(text) - start > limit:
        space = text.rfind(" ", start + limit // 2, start + limit)
        end = space if space >= 0 else start + limit
        yield text[start:end]
        start = end + (space >= 0)
    yield text[start:]


def divided(text: str, limit: int) -> list[str]:
    """A text in pieces of at most `limit` characters, cut at spaces.

    >>> divided("one two three", 8)
    ['one two', 'three']
    """
    return list(_pieces(text, limit))


def _decoded(path: Path, errors: Errors) -> Iterator[str]:
    r"""Blocks of text, in which `\n` ends every line."""
    utf8 = codecs.getincrementaldecoder("utf-8")(errors)
    newlines = io.IncrementalNewlineDecoder(utf8, translate=True)
    position = 0
    with _open(path) as file:
        while block := _read(file, path):
            if b"\0" in block:
                raise ValueError(
                    f"{path}: byte 0x00 at offset {position + block.index(0)}: not a text file (or UTF-16, then "
                    "convert it, e.g. by iconv -f utf16 -t utf8)."
                )
            mark = len(codecs.BOM_UTF8) if position == 0 and block.startswith(codecs.BOM_UTF8) else 0
            yield _decode(newlines, utf8, block[mark:], path, position + mark)
            position += len(block)
    if position == 0:
        raise ValueError(f"{path}: the file is empty.")
    yield _decode(newlines, utf8, b"", path, position, final=True)


def _open(path: Path) -> IO[bytes]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    return cast("IO[bytes]", _OPENERS.get(path.suffix, open)(path, "rb"))


def _read(file: IO[bytes], path: Path) -> bytes:
    try:
        return file.read(BLOCK_BYTES)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error


def _decode(
    newlines: io.IncrementalNewlineDecoder,
    utf8: codecs.IncrementalDecoder,
    block: bytes,
    path: Path,
    position: int,
    final: bool = False,
) -> str:
    waiting = len(utf8.getstate()[0])  # first bytes of a character, at the end of the block before
    try:
        return newlines.decode(block, final)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not UTF-8: byte 0x{error.object[error.start]:02x} at offset {position - waiting + error.start}. "
            "Convert the file, e.g. by iconv -f latin1 -t utf8, or let `errors: replace` put U+FFFD there."
        ) from None

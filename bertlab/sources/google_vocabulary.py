"""Google's vocab.txt, and the tokenizer that goes with it."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

VOCABULARY = "vocab.txt"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PADDED_ROWS = 127  # an embedding may be padded to a multiple of at most 128
# The released models: what their names begin with (tokenization.validate_case_matches_checkpoint).
LOWERED = re.compile(r"uncased|^multilingual_L|^chinese_L", re.IGNORECASE)
CASED = re.compile(r"(?<!un)cased", re.IGNORECASE)


def read_vocabulary(folder: str | Path, rows: int) -> list[str]:
    """The word pieces of vocab.txt in the order of their ids.

    Args:
        folder: that holds it.
        rows: of the word embedding. A padded embedding may have up to 127 more.

    Raises:
        FileNotFoundError: there is no vocab.txt.
        ValueError: it is not UTF-8, holds a piece twice, lacks a special one, or does not fit the embedding.
    """
    path = Path(folder) / VOCABULARY
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; a Google checkpoint needs it")
    try:
        # As Google's load_vocab: split at line feeds alone, since a piece may be one of Unicode's other line ends.
        lines = path.read_bytes().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8: {error}") from error
    pieces = [line.strip() for line in (lines[:-1] if lines[-1] == "" else lines)]
    twice = [piece for piece, count in Counter(pieces).items() if count > 1]
    if twice:
        raise ValueError(f"{path}: {twice[:5]} are there more than once, so that ids are not known")
    missing = [piece for piece in SPECIAL if piece not in pieces]
    if missing:
        raise ValueError(f"{path}: without {', '.join(missing)}, which BERT's examples are made with")
    if not 0 <= rows - len(pieces) <= PADDED_ROWS:
        raise ValueError(
            f"{path}: {len(pieces)} word pieces, but the word embedding has {rows} rows: it is the vocabulary of "
            "another model"
        )
    return pieces


def lowers_case(folder: str | Path, pieces: list[str]) -> bool:
    """Whether texts are to be lowercased (and their accents stripped), Google's `do_lower_case`.

    By the first of: `do_lower_case` in tokenizer_config.json; the name of the folder, as Google's releases are named
    (uncased_…, multilingual_…, chinese_… are lowercased, cased_… and multi_cased_… are not); the vocabulary, which is
    of lowercased texts if no piece holds a capital letter.

    Raises:
        ValueError: tokenizer_config.json is no JSON, or has another value there than true or false.
    """
    path = Path(folder) / "tokenizer_config.json"
    if path.is_file():
        try:
            settings: Any = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: no JSON: {error}") from error
        if isinstance(settings, dict) and "do_lower_case" in settings:
            if not isinstance(settings["do_lower_case"], bool):
                raise ValueError(
                    f"{path}: do_lower_case: {settings['do_lower_case']!r}; accepted: true, false"
                )
            return settings["do_lower_case"]
    capitals = any(re.search("[A-Z]", piece) for piece in pieces if not re.fullmatch(r"\[.*\]", piece))
    name = Path(folder).resolve().name
    lowers = not capitals
    if LOWERED.search(name) or CASED.search(name):
        lowers = LOWERED.search(name) is not None
        if lowers and capitals:
            log.warning(
                "%s is named as a lowercased model, but its vocabulary has capitals, which will never be used: write "
                'tokenizer_config.json with {"do_lower_case": false} if it is cased.', folder,
            )  # fmt: skip
    return lowers

"""From texts to token ids: by a fast tokenizer through `datasets`, once, cached by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn

from bertlab.data.layout import layout_of
from bertlab.data.rows import TextRows
from bertlab.data.tokenised_texts import TokenisedTexts
from bertlab.sources.cache import build_once, cache_folder
from bertlab.sources.models import model_folder

CHARACTERS_AT_ONCE = 2_000_000  # bounds the memory of a tokeniser call, whatever the length of a text
CHARACTERS_PER_TOKEN = 64  # of a text with more than this for each token it may keep, and more than
CHARACTERS_ALWAYS_READ = 20_000  # this, the rest is not read
_TOKENIZERS = (
    "Accepted: a folder with tokenizer.json or vocab.txt, the id of a model on the hub, or packaged:<name>."
)
FORMAT = 1  # raise when what is stored changes


def load_tokenizer(source: str | None) -> Any:
    """The fast tokenizer of a packaged model, a folder or a hub id.

    Raises:
        ValueError: there is none at `source`, it has no vocabulary, or no fast version; or no source is given.
    """
    from transformers import AutoTokenizer

    if source is None:
        raise ValueError(
            "data.init_args.tokenizer is not set, and the encoder has no `source` to take one from. "
            f"{_TOKENIZERS}"
        )
    where = model_folder(source)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"tokenizer: {source!r} cannot be read: {error}\n{_TOKENIZERS}") from error
    if not tokenizer.is_fast:
        raise ValueError(
            f"tokenizer: {source} gives a {type(tokenizer).__name__}, which is written in Python. Accepted: a "
            "tokenizer with a fast version (tokenizer.json)."
        )
    # Of a folder with a model alone transformers makes a tokenizer that knows the special tokens and no other.
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise ValueError(f"tokenizer: {source!r} has no vocabulary. {_TOKENIZERS}")
    return tokenizer


def tokenise(tokenizer: Any, rows: TextRows, max_length: int) -> TokenisedTexts:
    """Tokenise texts (or pairs), or read what an earlier run with the same content cached.

    Warns of texts that were cut.

    Args:
        tokenizer: a fast tokenizer of transformers.
        rows: the texts, and their labels as numbers.
        max_length: tokens at most, special ones included; of a pair the longer text is cut first.

    Raises:
        ValueError: `max_length` is more than the tokenizer's model takes, or leaves no room for a text.
    """
    special = tokenizer.num_special_tokens_to_add(pair=rows.pairs is not None)
    if not special < max_length <= tokenizer.model_max_length:
        raise ValueError(
            f"max_length: {max_length} is not accepted: this tokenizer takes {special + 1} to "
            f"{tokenizer.model_max_length} tokens ({special} of them special)."
        )
    settings = (
        FORMAT, max_length, tokenizer.truncation_side, _has_segments(tokenizer), rows.pairs is not None,
    )  # fmt: skip
    key = content_key(tokenizer, settings, rows.texts, rows.pairs or ())

    def build(folder: Path) -> None:
        _save_flat(folder, _map(folder, tokenizer, rows, max_length, key))
        (folder / "mapped.arrow").unlink()

    folder = build_once(cache_folder() / "tokens" / key, build)
    types = np.load(folder / "token_type_ids.npy")
    truncated = int(np.load(folder / "truncated.npy"))
    if truncated:
        rank_zero_warn(
            f"{rows.where}: {truncated} of {len(rows)} texts were cut to max_length {max_length} tokens."
        )
    return TokenisedTexts(
        np.load(folder / "input_ids.npy"),
        np.load(folder / "offsets.npy"),
        types if len(types) else None,
        truncated,
        rows.labels,
        layout_of(tokenizer, rows.pairs is not None),
    )


def content_key(tokenizer: Any, settings: tuple[Any, ...], *columns: Iterable[str]) -> str:
    """A name for what a tokenizer makes of some texts: other texts, settings or vocabularies have other names.

    Args:
        tokenizer: a fast tokenizer of transformers.
        settings: plain values.
        columns: of texts.
    """
    digest = hashlib.sha256()
    digest.update(repr(settings).encode())
    definition = tokenizer.backend_tokenizer.to_str()  # vocabulary, normaliser, …: all of it, as JSON
    for column in ((definition,), *columns):
        for text in column:
            raw = text.encode("utf-8", "surrogatepass")
            digest.update(len(raw).to_bytes(8, "little"))
            digest.update(raw)
    return digest.hexdigest()[:40]


def _has_segments(tokenizer: Any) -> bool:
    return "token_type_ids" in tokenizer.model_input_names


def clip(text: str, limit: int, side: str) -> str:
    """Drop what the tokenizer would cut off anyway, between two words: of a megabyte it would use a page.

    Args:
        text: any text.
        limit: characters to keep at most; shorter texts stay as they are.
        side: the end that is cut: "right" or "left".

    >>> clip("one two three", 9, "right"), clip("one two three", 9, "left")
    ('one two', 'two three')
    """
    if len(text) <= limit:
        return text
    if side == "left":
        start = len(text) - limit
        space = text.find(" ", start - 1, start + limit // 2)
        return text[space + 1 if space >= 0 else start :]
    space = text.rfind(" ", limit // 2, limit + 1)
    return text[: space if space >= 0 else limit]


def _map(folder: Path, tokenizer: Any, rows: TextRows, max_length: int, key: str) -> Any:
    import datasets

    # Rust threads speed up `map`. Said explicitly, the tokenizer does not warn when a process is forked later
    # (a loader's worker, which tokenises nothing).
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    limit = max(CHARACTERS_ALWAYS_READ, CHARACTERS_PER_TOKEN * max_length)
    columns = {"text": [clip(text, limit, tokenizer.truncation_side) for text in rows.texts]}
    if rows.pairs is not None:
        columns["pair"] = [clip(text, limit, tokenizer.truncation_side) for text in rows.pairs]
    longest = max(sum(len(text) for text in row) for row in zip(*columns.values(), strict=True))

    def encode(batch: dict[str, list[str]]) -> dict[str, Any]:
        encoded = tokenizer(
            batch["text"],
            batch.get("pair"),
            truncation=True,
            max_length=max_length,
            return_token_type_ids=True,
            return_attention_mask=False,
        )
        types = encoded["token_type_ids"]
        return {
            "input_ids": encoded["input_ids"],
            "token_type_ids": types if _has_segments(tokenizer) else [[0] * len(row) for row in types],
            # A fast tokenizer keeps what it cut off beside each encoding. (A text that `clip` has shortened still
            # has many more tokens than max_length, unless it is one giant word.)
            "cut": [bool(encoding.overflowing) for encoding in encoded.encodings],
        }

    features = {
        "input_ids": datasets.List(datasets.Value("int32")),
        "token_type_ids": datasets.List(datasets.Value("int8")),
        "cut": datasets.Value("bool"),
    }
    return datasets.Dataset.from_dict(columns).map(
        encode,
        batched=True,
        batch_size=min(1000, max(1, CHARACTERS_AT_ONCE // longest)),
        remove_columns=list(columns),
        features=datasets.Features(features),
        cache_file_name=str(folder / "mapped.arrow"),
        new_fingerprint=key,
        desc=f"Tokenising {rows.where}",
    )


def _save_flat(folder: Path, mapped: Any) -> None:
    """Arrow lists as flat arrays: a row of those costs 1.5 µs, of Arrow 58 µs."""
    columns = {name: mapped.data.column(name).combine_chunks() for name in mapped.column_names}
    lengths = columns["input_ids"].value_lengths().to_numpy()
    types = columns["token_type_ids"].flatten().to_numpy()
    np.save(folder / "input_ids.npy", columns["input_ids"].flatten().to_numpy())
    np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))
    np.save(folder / "token_type_ids.npy", types if types.any() else types[:0])
    np.save(folder / "truncated.npy", np.int64(np.sum(columns["cut"].to_numpy(zero_copy_only=False))))

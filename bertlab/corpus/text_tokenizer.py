"""A tokenizer for text: what looks like a special token in it is text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def text_tokenizer(source: Tokenizer | Path) -> Tokenizer:
    """A copy of a tokenizer that knows no special tokens, and neither cuts nor pads nor frames.

    A tokenizer finds its added tokens in the raw text, before anything else. So "[MASK]" in a text, which for BERT is
    the pieces "[", "mask", "]", would become the id of the mask. Without its special tokens, the copy cannot give their
    ids for any text. Added tokens that are not special (a vocabulary extended by words) are kept.

    Args:
        source: a tokenizer, or a folder with its tokenizer.json.
    """
    from tokenizers import Tokenizer

    if isinstance(source, Path):
        source = Tokenizer.from_file(str(source / "tokenizer.json"))
    definition: dict[str, Any] = json.loads(source.to_str())
    definition["added_tokens"] = [token for token in definition["added_tokens"] if not token["special"]]
    definition |= {"post_processor": None, "truncation": None, "padding": None}
    return Tokenizer.from_str(json.dumps(definition))

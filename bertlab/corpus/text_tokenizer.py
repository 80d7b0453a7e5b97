"""A tokenizer for text: what looks like a special token in it is text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

#: Before the name of a piece that no text shall have: a code point that is no character.
_HIDDEN = "\ufffe"


def text_tokenizer(source: Tokenizer | Path) -> Tokenizer:
    """A copy of a tokenizer that knows no special tokens, and neither cuts nor pads nor frames.

    A tokenizer finds its added tokens in the raw text, before anything else. So "[MASK]" in a text, which for BERT is
    the pieces "[", "mask", "]", would become the id of the mask. Its model may know them as pieces too, and those of
    SentencePiece (Unigram) find them within words. Without these names, the copy cannot give their ids for any text;
    only the unknown piece keeps its own. Added tokens that are not special (a vocabulary extended by words) are kept.

    Args:
        source: a tokenizer, or a folder with its tokenizer.json.
    """
    from tokenizers import Tokenizer

    if isinstance(source, Path):
        source = Tokenizer.from_file(str(source / "tokenizer.json"))
    definition: dict[str, Any] = json.loads(source.to_str())
    special = {token["content"] for token in definition["added_tokens"] if token["special"]}
    definition["added_tokens"] = [token for token in definition["added_tokens"] if not token["special"]]
    _hide(definition["model"], special)
    definition |= {"post_processor": None, "truncation": None, "padding": None}
    return Tokenizer.from_str(json.dumps(definition))


def _hide(model: dict[str, Any], special: set[str]) -> None:
    """Give pieces of a model a name that is in no text; ids stay."""
    vocabulary: Any = model.get("vocab")
    if isinstance(vocabulary, dict):  # piece → id
        names = special - {model.get("unk_token")}
        model["vocab"] = {_HIDDEN * (piece in names) + piece: number for piece, number in vocabulary.items()}
    elif vocabulary is not None:  # of Unigram: pieces and scores by their ids
        unknown = model.get("unk_id")
        model["vocab"] = [
            [_HIDDEN * (piece in special and number != unknown) + piece, score]
            for number, (piece, score) in enumerate(vocabulary)
        ]

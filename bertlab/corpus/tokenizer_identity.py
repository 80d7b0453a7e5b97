"""Whether two tokenizers are the same: by their pieces and by what they make of a text, not by how a file says it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

#: Holds what tokenizers differ in: case, accents, composed characters, CJK, digits, punctuation, white space, emoji.
PROBE = (
    "The naïve Cafe\u0301 in ZÜRICH cost 1,234.50 €; don't re-enter it! 北京の本 한국어 Δοκιμή, проверка "
    "\t tabs\u00a0and\u200bmore… 🙂 unbelievableness [MASK] antidisestablishmentarianism"
)


def fingerprint(tokenizer: Any) -> dict[str, Any]:
    """What identifies a tokenizer: its pieces in the order of their ids, and the pieces of a probe text.

    Args:
        tokenizer: a fast tokenizer of transformers, or one of `tokenizers`.

    Raises:
        TypeError: it is neither.
    """
    import tokenizers

    from bertlab.corpus.text_tokenizer import text_tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not isinstance(backend, tokenizers.Tokenizer):
        raise TypeError(
            f"tokenizer: a {type(tokenizer).__name__} is not accepted; a fast tokenizer of transformers is."
        )
    pieces = sorted(backend.get_vocab(with_added_tokens=True).items(), key=lambda item: (item[1], item[0]))
    probed = text_tokenizer(backend).encode(PROBE, add_special_tokens=False).tokens
    return {"pieces": [list(item) for item in pieces], "probe": probed}


def identity_hash(of: dict[str, Any]) -> str:
    """sha256 of a `fingerprint`."""
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()


def differing_pieces(own: dict[str, Any], given: dict[str, Any]) -> str:
    """The first difference of two fingerprints, in words."""
    if len(own["pieces"]) != len(given["pieces"]):
        return f"it has {len(own['pieces'])} pieces, the given one {len(given['pieces'])}"
    for (piece, number), (other, _) in zip(own["pieces"], given["pieces"], strict=True):
        if piece != other:
            return f"piece {number} is {piece!r} there, {other!r} in the given one"
    for here, there in zip(own["probe"], given["probe"], strict=False):
        if here != there:
            return f"of the same text it makes {here!r} where the given one makes {there!r}"
    return "they split the same text otherwise"

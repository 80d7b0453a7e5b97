"""A WordPiece tokenizer with more pieces: old ids stay, and what no new piece fits is split as before."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers.models import WordPiece

SHOWN = 5  # pieces in an error message


def extend_tokenizer(tokenizer: Any, pieces: Sequence[str]) -> Any:
    """A copy of a tokenizer whose WordPiece vocabulary has these pieces too, with ids after all others.

    A text is split as before wherever the longest match, which WordPiece takes, is not a new piece. A new piece also
    matches the beginning of a longer word ("covid" that of "covidien"), as any piece does.

    Args:
        tokenizer: a fast one of transformers, of the WordPiece kind.
        pieces: words, or with "##" in front ends of words, as the tokenizer sees them (lowercased, if it lowercases).

    Raises:
        ValueError: the tokenizer is of another kind; a piece is known already, there twice, or can never occur.
    """
    model = word_piece_model(tokenizer)
    prefix: str = model.continuing_subword_prefix
    known: Mapping[str, int] = tokenizer.get_vocab()
    twice = [piece for piece, count in Counter(pieces).items() if count > 1 or piece in known]
    if twice:
        raise ValueError(
            f"new_pieces: {twice[:SHOWN]} are in the vocabulary already, or there more than once"
        )
    for piece in pieces:
        _check_can_occur(tokenizer, piece, prefix, model.max_input_chars_per_word)
    first = next_id(tokenizer)
    vocabulary = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
    vocabulary.update({piece: first + place for place, piece in enumerate(pieces)})
    extended = copy.deepcopy(tokenizer)
    extended.backend_tokenizer.model = WordPiece(
        vocab=vocabulary,
        unk_token=model.unk_token,
        max_input_chars_per_word=model.max_input_chars_per_word,
        continuing_subword_prefix=prefix,
    )
    return extended


def next_id(tokenizer: Any) -> int:
    """The first id that no token of a tokenizer has."""
    return max(tokenizer.get_vocab().values()) + 1


def word_piece_model(tokenizer: Any) -> Any:
    """The WordPiece model of a fast tokenizer.

    Raises:
        ValueError: it is not fast, or of another kind.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    model = getattr(backend, "model", None)
    if not isinstance(model, WordPiece):
        kind = type(tokenizer).__name__ if model is None else type(model).__name__
        raise ValueError(f"new_pieces: the tokenizer is a {kind}; accepted: a WordPiece tokenizer, as BERT's")
    return model


def old_spelling(tokenizer: Any, piece: str) -> list[int]:
    """The ids of the pieces that a tokenizer splits a piece into that it does not know; none if it cannot.

    Args:
        tokenizer: without the piece.
        piece: a word, or with "##" in front an end of words.
    """
    prefix: str = word_piece_model(tokenizer).continuing_subword_prefix
    vocabulary = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
    return longest_matches(piece, vocabulary, prefix)


def longest_matches(piece: str, vocabulary: Mapping[str, int], prefix: str = "##") -> list[int]:
    """WordPiece's greedy split: always the longest piece that fits what is left; none if nothing does.

    Examples:
        >>> longest_matches("unable", {"un": 0, "una": 1, "##ble": 2, "##able": 3})
        [1, 2]
        >>> longest_matches("##ables", {"##able": 3, "##s": 4})
        [3, 4]
        >>> longest_matches("unit", {"un": 0})
        []
    """
    rest = piece.removeprefix(prefix)
    head = prefix if piece.startswith(prefix) and rest else ""
    rest = rest or piece
    found: list[int] = []
    while rest:
        size = next((size for size in range(len(rest), 0, -1) if head + rest[:size] in vocabulary), 0)
        if not size:
            return []
        found.append(vocabulary[head + rest[:size]])
        rest, head = rest[size:], prefix
    return found


def read_new_pieces(new_pieces: str | Sequence[str], tokenizer: Any) -> list[str]:
    """What an argument `new_pieces` names.

    Args:
        new_pieces: pieces; or the path of a file with one on each line; or a folder with a tokenizer that has all
            pieces of `tokenizer` at their ids, and others after them.
        tokenizer: the one to extend. What it knows already of a list or file is left out.

    Returns:
        The pieces in the order of their ids to be.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: the file is not UTF-8 or holds nothing; the folder's tokenizer is no extension.
    """
    if not isinstance(new_pieces, str):
        return [piece for piece in dict.fromkeys(new_pieces) if piece not in tokenizer.get_vocab()]
    path = Path(new_pieces).expanduser()
    if path.is_dir():
        from transformers import AutoTokenizer

        return _beyond(tokenizer, AutoTokenizer.from_pretrained(path), path)
    if not path.is_file():
        raise FileNotFoundError(
            f"new_pieces: {new_pieces}: there is no such file or folder; accepted: a list, a file with a piece on each "
            "line, or a folder with an extended tokenizer"
        )
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"new_pieces: {path}: not UTF-8: {error}") from error
    pieces = list(dict.fromkeys(line for line in lines if line))
    if not pieces:
        raise ValueError(f"new_pieces: {path}: no piece on any line")
    return [piece for piece in pieces if piece not in tokenizer.get_vocab()]


def _beyond(tokenizer: Any, extended: Any, path: Path) -> list[str]:
    old, new = tokenizer.get_vocab(), extended.get_vocab()
    moved = [piece for piece, place in old.items() if new.get(piece) != place]
    if moved:
        raise ValueError(
            f"new_pieces: {path}: its tokenizer does not extend that of the encoder: {len(moved)} pieces are missing "
            f"or have another id, such as {sorted(moved)[:SHOWN]}"
        )
    pieces = sorted((piece for piece in new if piece not in old), key=new.__getitem__)
    ids = [new[piece] for piece in pieces]
    if ids != list(range(next_id(tokenizer), next_id(tokenizer) + len(ids))):
        raise ValueError(
            f"new_pieces: {path}: the ids of its new pieces do not follow the old ones one by one"
        )
    return pieces


def _check_can_occur(tokenizer: Any, piece: str, prefix: str, longest: int) -> None:
    bare = piece.removeprefix(prefix) or piece
    backend = tokenizer.backend_tokenizer
    text = backend.normalizer.normalize_str(bare) if backend.normalizer is not None else bare
    splitter = backend.pre_tokenizer
    words = [word for word, _ in splitter.pre_tokenize_str(text)] if splitter is not None else [text]
    if words != [bare] or len(bare) > longest:
        raise ValueError(
            f"new_pieces: {piece!r} can never occur: the tokenizer sees {words} there, and takes words of at most "
            f"{longest} characters"
        )

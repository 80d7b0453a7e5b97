"""From words to word pieces: by a fast tokenizer, once, cached by content; then to windows of limited length."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from lightning.pytorch.utilities import rank_zero_warn

from bertlab.data.layout import Layout
from bertlab.data.tokenised import CHARACTERS_AT_ONCE, content_key
from bertlab.data.tokenised_words import Marks, TokenisedWords
from bertlab.data.windows import Numbers, Window, ranges, windows_of
from bertlab.data.word_rows import WordRows
from bertlab.sources.cache import build_once, cache_folder

FORMAT = 1  # raise when what is stored changes
LabelPieces = Literal["first", "all"]


class Pieces(NamedTuple):
    """The word pieces of a split, without special tokens.

    Attributes:
        ids: (P,) int32, word after word.
        counts: (words,) pieces of each word, 1 or more.
    """

    ids: npt.NDArray[np.int32]
    counts: Numbers


def words_tokenizer(tokenizer: Any) -> Any:
    """The tokenizer, set so that a word by itself is cut as a word within a sentence.

    Byte-level tokenizers (RoBERTa, ModernBERT) keep the space before a word in its first piece.
    """
    before: Any = tokenizer.backend_tokenizer.pre_tokenizer
    if getattr(before, "add_prefix_space", None) is False:
        before.add_prefix_space = True
        tokenizer.add_prefix_space = True
    return tokenizer


def tokenise_words(
    tokenizer: Any, rows: WordRows, max_length: int, context: int, label_pieces: LabelPieces
) -> TokenisedWords:
    """Tokenise sentences, or read what an earlier run with the same content cached, and lay them out in windows.

    Every word is in a window that answers for it: a sentence that is too long is divided, and a word of which the
    tokenizer makes nothing (a control character) is the unknown token. Warns of such words, and of words that are
    longer than a window, whose end is not read.

    Args:
        tokenizer: of `words_tokenizer`.
        rows: the sentences, and the classes of their words.
        max_length: tokens of a window at most, special ones included.
        context: pieces that a window of a divided sentence reads on either side of those it answers for, at most.
        label_pieces: where a word has its label in training.

    Raises:
        ValueError: `max_length` or `context` is out of range, or there is no unknown token for a word without pieces.
    """
    before, after = _special_tokens(tokenizer)
    special = len(before) + len(after)
    if not special < max_length <= tokenizer.model_max_length:
        raise ValueError(
            f"max_length: {max_length} is not accepted: this tokenizer takes {special + 1} to "
            f"{tokenizer.model_max_length} tokens ({special} of them special)."
        )
    room = max_length - special
    if not 0 <= 2 * context < room:
        raise ValueError(
            f"window_context: {context} is not accepted: context on both sides has to leave room in a window of "
            f"{room} pieces (max_length {max_length}, {special} of them special): 0 to {(room - 1) // 2}."
        )
    pieces, cut = _cut(_pieces(tokenizer, rows), room)
    if cut:
        rank_zero_warn(
            f"{rows.where}: {cut} words have more than {room} pieces, of which the rest is not read (max_length "
            f"{max_length})."
        )
    windows, sentences = _windows(rows, pieces, room, context)
    labels = None
    if rows.labels is not None:
        labels = np.array([label for sentence in rows.labels for label in sentence], dtype=np.int64)
    return _laid_out(pieces, windows, (before, after), label_pieces, cut, sentences, labels)


def _special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before and after a text."""
    encoded = tokenizer(["a"], is_split_into_words=True, return_special_tokens_mask=True)
    ids, mask = encoded["input_ids"], encoded["special_tokens_mask"]
    first = mask.index(0)
    last = len(mask) - mask[::-1].index(0)
    return ids[:first], ids[last:]


def _pieces(tokenizer: Any, rows: WordRows) -> Pieces:
    """Of all words, from the cache; warns of words without a piece."""
    lengths = (str(len(sentence)) for sentence in rows.words)
    words = (word for sentence in rows.words for word in sentence)
    key = content_key(tokenizer, ("words", FORMAT, tokenizer.unk_token_id), lengths, words)

    def build(folder: Path) -> None:
        ids, counts = _tokenise(tokenizer, rows)
        nothing = np.flatnonzero(counts == 0)
        if len(nothing):
            if tokenizer.unk_token_id is None:
                raise ValueError(
                    f"{rows.where}: the tokenizer makes nothing of {len(nothing)} words, such as "
                    f"{[w for s in rows.words for w in s][nothing[0]]!r}, and has no unknown token to read for them."
                )
            ids = np.insert(ids, (np.cumsum(counts) - counts)[nothing], tokenizer.unk_token_id)
            counts[nothing] = 1
        np.save(folder / "ids.npy", ids.astype(np.int32))
        np.save(folder / "counts.npy", counts)
        np.save(folder / "nothing.npy", nothing)

    folder = build_once(cache_folder() / "tokens" / key, build)
    nothing = np.load(folder / "nothing.npy")
    if len(nothing):
        rank_zero_warn(
            f"{rows.where}: the tokenizer makes nothing of {len(nothing)} words (empty, or control characters); each "
            f"is read as {tokenizer.unk_token}."
        )
    return Pieces(np.load(folder / "ids.npy"), np.load(folder / "counts.npy"))


def _tokenise(tokenizer: Any, rows: WordRows) -> tuple[Numbers, Numbers]:
    # Said explicitly, the tokenizer does not warn when a process is forked later; see `bertlab.data.tokenised`.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    ids: list[Numbers] = []
    counts: list[Numbers] = []
    start = 0
    while start < len(rows):
        stop, characters = start, 0
        while stop < len(rows) and (stop == start or characters < CHARACTERS_AT_ONCE):
            characters += sum(map(len, rows.words[stop]))
            stop += 1
        encoded = tokenizer(
            rows.words[start:stop],
            is_split_into_words=True,
            add_special_tokens=False,
            verbose=False,  # it would warn of sentences that are longer than the model takes: they get windows
        )
        for sentence, encoding in zip(rows.words[start:stop], encoded.encodings, strict=True):
            ids.append(np.array(encoding.ids, dtype=np.int64))
            found = np.array(encoding.word_ids, dtype=np.int64)
            counts.append(np.bincount(found, minlength=len(sentence)))
        start = stop
    return np.concatenate(ids), np.concatenate(counts)


def _cut(pieces: Pieces, room: int) -> tuple[Pieces, int]:
    """Leave out what a word has above `room` pieces; how many words that is."""
    long = int((pieces.counts > room).sum())
    if not long:
        return pieces, 0
    starts = np.cumsum(pieces.counts) - pieces.counts
    counts = np.minimum(pieces.counts, room)
    return Pieces(pieces.ids[ranges(starts, counts)], counts), long


def _windows(rows: WordRows, pieces: Pieces, room: int, context: int) -> tuple[Numbers, Numbers]:
    """(n, 4) windows in words of the split; (words,) sentence of each word."""
    lengths = np.array([len(sentence) for sentence in rows.words], dtype=np.int64)
    ends = np.cumsum(lengths)
    totals = np.add.reduceat(pieces.counts, ends - lengths)
    found: list[Window] = []
    for start, stop, total in zip((ends - lengths).tolist(), ends.tolist(), totals.tolist(), strict=True):
        if total <= room:
            found.append(Window(start, start, stop, stop))
        else:
            inner = windows_of(pieces.counts[start:stop], room, context)
            found.extend(Window(*(start + edge for edge in window)) for window in inner)
    return np.array(found, dtype=np.int64), np.repeat(np.arange(len(rows)), lengths)


def _laid_out(
    pieces: Pieces,
    windows: Numbers,
    special: tuple[list[int], list[int]],
    label_pieces: LabelPieces,
    cut: int,
    sentences: Numbers,
    labels: Numbers | None,
) -> TokenisedWords:
    before, after = special
    left, start, stop, right = windows.T
    piece_ends = np.concatenate([[0], np.cumsum(pieces.counts)])
    inside = piece_ends[right] - piece_ends[left]
    offsets = np.concatenate([[0], np.cumsum(inside + len(before) + len(after))])
    input_ids = np.empty(offsets[-1], dtype=np.int32)
    input_ids[offsets[:-1, None] + np.arange(len(before))] = before
    input_ids[offsets[1:, None] - len(after) + np.arange(len(after))] = after
    input_ids[ranges(offsets[:-1] + len(before), inside)] = pieces.ids[ranges(piece_ends[left], inside)]
    # Where the window's first piece stands in the flat array of pieces, less its place in the window.
    shift = piece_ends[left] - len(before)
    words = ranges(start, stop - start)
    first = Marks(
        piece_ends[words] - np.repeat(shift, stop - start),
        words,
        np.concatenate([[0], np.cumsum(stop - start)]),
    )
    marks = first
    if label_pieces == "all":
        owned = piece_ends[stop] - piece_ends[start]
        marks = Marks(
            ranges(piece_ends[start], owned) - np.repeat(shift, owned),
            np.repeat(words, pieces.counts[words]),
            np.concatenate([[0], np.cumsum(owned)]),
        )
    layout = Layout(len(before), 0, len(after))
    return TokenisedWords(input_ids, offsets, cut, first, marks, sentences, labels, layout)

"""Training of a WordPiece that is the same every time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

LONGEST_WORD = 100  # characters; WordPiece makes [UNK] of a longer one, so nothing can be learned from it
_LONG_WORD = re.compile(rf"\w{{{LONGEST_WORD + 1},}}")


def train_wordpiece(
    sentences: Iterable[str],
    characters: Mapping[str, int],
    size: int,
    min_frequency: int,
    lowercase: bool,
    special_tokens: Sequence[str],
    max_alphabet: int,
) -> list[str]:
    """The pieces, in the order of their ids: special tokens, characters, then what joining them gives.

    `tokenizers` breaks ties between equally frequent pairs by the ids of their parts, and gives the ids of the
    characters inside words (`##c`) in the order in which it meets them in a hash table, which differs from process to
    process. So these are handed to it, in order of their code points.

    Args:
        sentences: the text to learn from.
        characters: how often each character stands in the whole text, which may be more than `sentences`.
        size: pieces wanted; there may be fewer in a small text.
        min_frequency: how often a pair has to occur to be joined.
        lowercase: lowercase and strip accents.
        special_tokens: get the first ids; the second one is the unknown token.
        max_alphabet: characters to keep at most, the most frequent ones.

    Raises:
        ValueError: `size` has no room for the special tokens and the characters.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    alphabet = _alphabet(characters, normalizer.normalize_str, max_alphabet)
    inside = ["##" + character for character in alphabet]
    if len(special_tokens) + 2 * len(alphabet) > size:
        needed = len(special_tokens) + 2 * len(alphabet)
        raise ValueError(
            f"vocabulary.size: {size} is too small: {len(special_tokens)} special tokens and {len(alphabet)} "
            f"characters, each at the beginning of a word and inside, are {needed} already. Raise it, or lower "
            "vocabulary.max_alphabet."
        )
    tokenizer = Tokenizer(models.WordPiece(unk_token=special_tokens[1]))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=min_frequency,
        special_tokens=[*special_tokens, *inside],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(without_long_words(sentences), trainer)
    learned: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    first = [*special_tokens, *alphabet, *inside]
    known = set(first)
    joined = sorted((piece for piece in learned if piece not in known), key=lambda piece: learned[piece])
    return [*first, *joined]


def _alphabet(characters: Mapping[str, int], normalize: Callable[[str], str], most: int) -> list[str]:
    counts: Counter[str] = Counter()
    for character, count in characters.items():
        for part in normalize(character):
            if not part.isspace():
                counts[part] += count
    frequent = sorted(counts, key=lambda character: (-counts[character], character))[:most]
    return sorted(frequent)


def without_long_words(sentences: Iterable[str]) -> Iterator[str]:
    """The sentences without words that are too long to be learned from, which cost a trainer much."""
    for sentence in sentences:
        yield _LONG_WORD.sub(" ", sentence) if len(sentence) > LONGEST_WORD else sentence

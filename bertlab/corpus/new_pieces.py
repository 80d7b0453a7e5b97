"""Which word pieces a vocabulary lacks for a corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.trainers import WordPieceTrainer

from bertlab.corpus.wordpiece import without_long_words
from bertlab.sources.extended_tokenizer import extend_tokenizer, next_id, old_spelling, word_piece_model

TEXTS_AT_ONCE = 1_000


def propose_pieces(
    texts: Iterable[str], tokenizer: Any, number: int, minimum_uses: int = 20, trained_pieces: int = 30_000
) -> list[str]:
    """Pieces that begin words, which the corpus uses often and the tokenizer splits into several.

    A WordPiece vocabulary is trained on the corpus with the tokenizer's own normalisation (Yao et al. 2021,
    arXiv:2106.13474, section 3, take the same way); of its pieces that begin words and are not known already, those
    are proposed that spare the most tokens: uses times pieces spared at each. Uses are counted in the corpus with all
    candidates in the vocabulary. Numbers and single characters are left out.

    Args:
        texts: of the corpus; gone through several times, so a generator will not do. Held in memory are some thousand.
        tokenizer: a fast WordPiece tokenizer.
        number: pieces to propose at most, 1 or more.
        minimum_uses: in the corpus, for a piece to be proposed; 1 or more.
        trained_pieces: size of the vocabulary that is trained.

    Returns:
        The pieces, the one that spares the most first; fewer than `number` where there are no more.

    Raises:
        TypeError: `texts` can be gone through only once.
        ValueError: the tokenizer is of another kind, or a number is out of range.
    """
    for name, value in (
        ("number", number), ("minimum_uses", minimum_uses), ("trained_pieces", trained_pieces),
    ):  # fmt: skip
        if value < 1:
            raise ValueError(f"{name} takes 1 or more, got {value}")
    if iter(texts) is texts:
        raise TypeError(
            "texts are gone through several times: give a list, or an object that can begin again"
        )
    candidates = _candidates(texts, tokenizer, minimum_uses, trained_pieces)
    uses = _uses(texts, extend_tokenizer(tokenizer, candidates), next_id(tokenizer), len(candidates))
    # What was [UNK] before spares no token, but gains a meaning: as good as one.
    spared = {piece: max(len(old_spelling(tokenizer, piece)) - 1, 1) for piece in candidates}
    gains = {
        piece: int(count) * spared[piece]
        for piece, count in zip(candidates, uses, strict=True)
        if count >= minimum_uses
    }
    return sorted(gains, key=lambda piece: (-gains[piece], piece))[:number]


def _candidates(texts: Iterable[str], tokenizer: Any, minimum_uses: int, trained_pieces: int) -> list[str]:
    model = word_piece_model(tokenizer)
    backend = tokenizer.backend_tokenizer
    alphabet = _alphabet(texts, backend.normalizer, minimum_uses)
    prefix: str = model.continuing_subword_prefix
    trained = Tokenizer(WordPiece({model.unk_token: 0}, unk_token=model.unk_token))
    if backend.normalizer is not None:
        trained.normalizer = backend.normalizer
    if backend.pre_tokenizer is not None:
        trained.pre_tokenizer = backend.pre_tokenizer
    # Ties between pairs are broken by ids, and the trainer numbers the characters inside words in the order of a hash
    # table, which differs from process to process: so they are given to it in order.
    trainer = WordPieceTrainer(
        vocab_size=trained_pieces,
        min_frequency=minimum_uses,
        show_progress=False,
        special_tokens=[model.unk_token, *(prefix + character for character in alphabet)],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        continuing_subword_prefix=prefix,
    )
    trained.train_from_iterator(without_long_words(texts), trainer)
    known = tokenizer.get_vocab()
    return sorted(
        piece
        for piece in trained.get_vocab()
        if piece not in known
        and not piece.startswith(prefix)
        and not piece.isnumeric()
        # Signs make words too, which are not left out of the text, however long.
        and 1 < len(piece) <= model.max_input_chars_per_word
    )


def _alphabet(texts: Iterable[str], normalizer: Any, minimum_uses: int) -> list[str]:
    """The characters of the normalised texts that occur often enough, sorted."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    normal: Counter[str] = Counter()
    for character, count in counts.items():
        for part in character if normalizer is None else normalizer.normalize_str(character):
            normal[part] += count
    return sorted(part for part, count in normal.items() if count >= minimum_uses and not part.isspace())


def _uses(texts: Iterable[str], extended: Any, first_id: int, number: int) -> npt.NDArray[np.int64]:
    """How often each new piece stands in the texts."""
    backend = extended.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    counts = np.zeros(number, np.int64)
    for part in _parts(texts):
        for encoding in backend.encode_batch_fast(part, add_special_tokens=False):
            ids = np.asarray(encoding.ids, np.int64) - first_id
            np.add.at(counts, ids[ids >= 0], 1)
    return counts


def _parts(texts: Iterable[str]) -> Iterator[list[str]]:
    going = iter(texts)
    while part := list(islice(going, TEXTS_AT_ONCE)):
        yield part

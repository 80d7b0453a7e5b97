"""ExtendedVocabulary: a vocabulary that is there already, with the pieces that a corpus needs most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertlab.corpus.vocabulary import GivenVocabulary, Vocabulary


@dataclass(frozen=True)
class ExtendedVocabulary(Vocabulary):
    """The WordPiece tokenizer of an encoder, and new pieces after its own, for continued pretraining.

    Old ids stay. The encoder takes the new pieces from the tokenizer of the store:
    `encoder: {class_path: bertlab.encoders.pretrained.PretrainedEncoder, init_args: {source: …, new_pieces:
    corpora/<name>/tokenizer}}`. How they are found: `bertlab.corpus.new_pieces`.

    Attributes:
        source: `packaged:minilm_l6_v2`, a folder, or a hub id.
        number: new pieces at most; a corpus may need fewer.
        minimum_uses: how often a new piece has to occur in the text that is read.
        trained_pieces: size of the vocabulary that is trained to find candidates.
        max_characters: characters of the text to read at most, spread over all of it.
    """

    source: str
    number: int = 2_000
    minimum_uses: int = 20
    trained_pieces: int = 30_000
    max_characters: int = 100_000_000

    needs_text = True

    def __post_init__(self) -> None:
        for key in ("number", "minimum_uses", "trained_pieces", "max_characters"):
            if getattr(self, key) < 1:
                raise ValueError(f"vocabulary.{key}: {getattr(self, key)} is not accepted: 1 or more.")

    def identity(self) -> list[dict[str, Any]]:
        """That of the vocabulary which is extended."""
        return GivenVocabulary(self.source).identity()

    def make(
        self, folder: Path, characters: Mapping[str, int], sentences: Callable[[int], Iterator[str]]
    ) -> None:
        """As `Vocabulary.make`.

        Raises:
            ValueError: there is no fast WordPiece tokenizer at `source`, or it lacks a special token.
        """
        from transformers import AutoTokenizer

        from bertlab.corpus.new_pieces import propose_pieces
        from bertlab.sources.extended_tokenizer import extend_tokenizer

        GivenVocabulary(self.source).make(folder, characters, sentences)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        texts = _Again(sentences, self.max_characters)
        pieces = propose_pieces(texts, tokenizer, self.number, self.minimum_uses, self.trained_pieces)
        extend_tokenizer(tokenizer, pieces).save_pretrained(folder)


@dataclass(frozen=True)
class _Again:
    """Sentences that can be gone through more than once."""

    sentences: Callable[[int], Iterator[str]]
    characters: int

    def __iter__(self) -> Iterator[str]:
        return self.sentences(self.characters)

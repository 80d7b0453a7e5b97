"""The vocabulary of a corpus: a WordPiece trained on it, or one that is there already."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertlab.corpus.atomic_files import read_json, write_json
from bertlab.corpus.vocabulary_identity import vocabulary_identity
from bertlab.corpus.wordpiece import train_wordpiece
from bertlab.sources.models import model_folder

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
NEEDED = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")


class Vocabulary(ABC):
    """Makes the tokenizer of a corpus."""

    #: Whether `make` reads the text.
    needs_text: bool

    @abstractmethod
    def make(
        self, folder: Path, characters: Mapping[str, int], sentences: Callable[[int], Iterator[str]]
    ) -> None:
        """Write a folder that `AutoTokenizer.from_pretrained` loads.

        Args:
            folder: to be made.
            characters: how often each character stands in the text; empty if `needs_text` is False.
            sentences: called with a number of characters, gives sentences of about so many, spread over the text.
        """

    def identity(self) -> list[dict[str, Any]]:
        """What it takes from elsewhere, as plain values: of files, name, size and sha256; nothing here."""
        return []


@dataclass(frozen=True)
class TrainedVocabulary(Vocabulary):
    """A WordPiece of this corpus, with BERT's normaliser: clean, space around CJK, lowercase, NFD without marks.

    The same text gives the same vocabulary, whatever the number of threads.

    Attributes:
        size: pieces, the special ones included.
        lowercase: lowercase the text and strip accents (uncased), or keep both (cased).
        min_frequency: how often a pair has to occur to be joined.
        special_tokens: padding, unknown, class, separator, mask (in this order), then more of one's own; they get the
            first ids.
        max_alphabet: characters that get pieces of their own at most, the most frequent ones.
        max_characters: characters of the text to learn from at most, spread over all of it; it bounds the memory.
    """

    size: int = 30522
    lowercase: bool = True
    min_frequency: int = 2
    special_tokens: tuple[str, ...] = SPECIAL_TOKENS
    max_alphabet: int = 1000
    max_characters: int = 100_000_000

    needs_text = True

    def __post_init__(self) -> None:
        given = self.special_tokens
        if len(set(given)) != len(given) or len(given) < len(NEEDED):
            raise ValueError(
                f"vocabulary.special_tokens: {list(self.special_tokens)} is not accepted: different tokens for "
                f"padding, unknown, class, separator and mask, in this order, e.g. {list(SPECIAL_TOKENS)}, then "
                "any others."
            )
        for key in ("size", "min_frequency", "max_alphabet", "max_characters"):
            if getattr(self, key) < 1:
                raise ValueError(f"vocabulary.{key}: {getattr(self, key)} is not accepted: 1 or more.")

    def make(
        self, folder: Path, characters: Mapping[str, int], sentences: Callable[[int], Iterator[str]]
    ) -> None:
        """As `Vocabulary.make`."""
        pieces = train_wordpiece(
            sentences(self.max_characters),
            characters,
            self.size,
            self.min_frequency,
            self.lowercase,
            self.special_tokens,
            self.max_alphabet,
        )
        _save(folder, pieces, self.lowercase, self.special_tokens)


@dataclass(frozen=True)
class GivenVocabulary(Vocabulary):
    """A tokenizer that is there already.

    Attributes:
        source: `packaged:minilm_l6_v2`, a folder, a hub id, or a vocab.txt of BERT.
        uncased: for a vocab.txt alone, which does not say it: lowercase the text and strip accents. (Not named as the
            key of `TrainedVocabulary`, whose value would be kept when one class is laid over the other.)
    """

    source: str
    uncased: bool | None = None

    needs_text = False

    def identity(self) -> list[dict[str, Any]]:
        """As `Vocabulary.identity`; see `bertlab.corpus.vocabulary_identity`."""
        return vocabulary_identity(self.source)

    def make(
        self, folder: Path, characters: Mapping[str, int], sentences: Callable[[int], Iterator[str]]
    ) -> None:
        """As `Vocabulary.make`.

        Raises:
            ValueError: there is no fast tokenizer at `source`, it lacks a special token, or it does not say the case.
        """
        if self.source.endswith(".txt"):
            if self.uncased is None:
                raise ValueError(
                    f"vocabulary.uncased: {self.source} does not say whether it is of lowercased text. Accepted: "
                    "true or false (cased)."
                )
            _save(folder, read_pieces(Path(self.source)), self.uncased, SPECIAL_TOKENS)
            return
        if self.uncased is not None:
            raise ValueError(
                f"vocabulary.uncased: {self.uncased} is not accepted: {self.source} says it itself."
            )
        from transformers import AutoTokenizer

        tokenizer: Any = AutoTokenizer.from_pretrained(model_folder(self.source))
        missing = [name for name in NEEDED if getattr(tokenizer, name) is None]
        if not tokenizer.is_fast or missing:
            raise ValueError(
                f"vocabulary.source: {self.source} is not accepted: "
                + (
                    f"it has no {', '.join(missing)}."
                    if missing
                    else "it has no fast tokenizer (tokenizer.json)."
                )
            )
        tokenizer.save_pretrained(folder)


def read_pieces(path: Path) -> list[str]:
    """The pieces of a vocab.txt, in the order of their ids.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not UTF-8, a piece twice, or a special token missing.
    """
    if not path.is_file():
        raise FileNotFoundError(f"vocabulary.source: {path}: no such file.")
    try:
        pieces = [line.rstrip("\r") for line in path.read_text(encoding="utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8: {error}") from error
    while pieces and not pieces[-1]:
        pieces.pop()
    seen: dict[str, int] = {}
    for number, piece in enumerate(pieces, start=1):
        if seen.setdefault(piece, number) != number:
            raise ValueError(f"{path}: line {number}: {piece!r} stands in line {seen[piece]} already.")
    missing = [token for token in SPECIAL_TOKENS if token not in seen]
    if missing:
        raise ValueError(f"{path}: lacks {', '.join(missing)}: not a vocabulary of BERT.")
    return pieces


def _save(folder: Path, pieces: list[str], lowercase: bool, special: tuple[str, ...]) -> None:
    """A tokenizer of BERT as transformers saves it, and vocab.txt, which other tools read.

    Written without transformers, which would load torch: that takes longer than building a small corpus.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    ids = {piece: number for number, piece in enumerate(pieces)}
    padding, unknown, start, separator, mask = special[: len(NEEDED)]
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start}:0 $A:0 {separator}:0",
        pair=f"{start}:0 $A:0 {separator}:0 $B:1 {separator}:1",
        special_tokens=[(start, ids[start]), (separator, ids[separator])],
    )
    tokenizer.add_special_tokens(list(special))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8", newline="\n")
    tokenizer.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": lowercase,
        "model_max_length": 512,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        **{
            "pad_token": padding,
            "unk_token": unknown,
            "cls_token": start,
            "sep_token": separator,
            "mask_token": mask,
        },
    }
    if len(special) > len(NEEDED):
        config["additional_special_tokens"] = list(special[len(NEEDED) :])
    write_json(folder / "tokenizer_config.json", config)


def unknown_id(folder: Path) -> int:
    """The id of the unknown token of a saved tokenizer; −1 where there is none, as in vocabularies of bytes."""
    config = read_json(folder / "tokenizer_config.json").get("unk_token")
    token = config["content"] if isinstance(config, dict) else config
    model = read_json(folder / "tokenizer.json")["model"]
    # A vocabulary of bytes knows every text, though transformers names a token that stands for the unknown one.
    if token is None or (model["type"] == "BPE" and model.get("unk_token") is None):
        return -1
    from tokenizers import Tokenizer

    number = Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id(token)
    return -1 if number is None else number

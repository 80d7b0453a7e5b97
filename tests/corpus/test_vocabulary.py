"""Vocabularies, trained and given."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bertlab.corpus.text_tokenizer import text_tokenizer
from bertlab.corpus.tokenizer_identity import fingerprint
from bertlab.corpus.vocabulary import GivenVocabulary, TrainedVocabulary, read_pieces, unknown_id
from bertlab.corpus.wordpiece import train_wordpiece
from tests.corpus.corpus_text import document

TEXT = [sentence for number in range(60) for sentence in document(number)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def make(vocabulary: TrainedVocabulary | GivenVocabulary, folder: Path) -> None:
    vocabulary.make(folder, Counter("".join(TEXT)), lambda _: iter(TEXT))


def train(text: list[str], size: int = 200, max_alphabet: int = 1000) -> list[str]:
    return train_wordpiece(text, Counter("".join(text)), size, 2, True, SPECIAL, max_alphabet)


def test_joins_what_is_most_frequent() -> None:
    """ "low" 3 times and "lot" twice: l+##o (5) first, then lo+##w (3), then lo+##t (2)."""
    pieces = train(["low low low lot lot"])
    assert pieces == [*SPECIAL, *"lotw", "##l", "##o", "##t", "##w", "lo", "low", "lot"]


def test_rare_characters_are_left_out() -> None:
    pieces = train(["ab ab ab abc"], max_alphabet=2)
    assert pieces == [*SPECIAL, "a", "b", "##a", "##b", "ab"]


def test_is_the_same_in_every_process_and_with_any_threads(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("\n".join(TEXT))
    program = (
        "import sys; from collections import Counter; from bertlab.corpus.wordpiece import train_wordpiece;"
        f"t = open({str(tmp_path / 'text.txt')!r}).read().split('\\n');"
        f"print(train_wordpiece(t, Counter(''.join(t)), 200, 2, True, {SPECIAL!r}, 1000))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            check=True,
        ).stdout
        for threads in ("1", "3")
    }
    assert len(found) == 1
    assert found == {(repr(train(TEXT)) + os.linesep).encode()}


def test_too_small_a_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"vocabulary\.size: 20 is too small: 5 special tokens and \d+ characters"
    ):
        make(TrainedVocabulary(size=20), tmp_path / "t")
    with pytest.raises(ValueError, match=r"vocabulary\.special_tokens"):
        TrainedVocabulary(special_tokens=("[PAD]", "[UNK]"))


def test_transformers_loads_it_as_its_own_bert(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, BertTokenizerFast

    make(TrainedVocabulary(size=200, special_tokens=(*SPECIAL, "[E1]")), tmp_path / "t")
    ours = AutoTokenizer.from_pretrained(tmp_path / "t")
    peer = BertTokenizerFast(vocab=str(tmp_path / "t" / "vocab.txt"))
    text, pair = "Balobalo, KÉ [SEP] 北京 zu!", "Mi nu."
    peer.add_special_tokens({"additional_special_tokens": ["[E1]"]})
    assert dict(ours(text, pair)) == dict(peer(text, pair))
    assert ours.decode(ours("balo ke")["input_ids"]) == "[CLS] balo ke [SEP]"
    assert (ours.pad_token_id, ours.mask_token_id, ours.model_max_length) == (0, 4, 512)
    assert ours("[E1]", add_special_tokens=False)["input_ids"] == [5]
    assert len(ours) == 200
    assert unknown_id(tmp_path / "t") == 1
    # and for text, it agrees with the tokenizer itself, but for special tokens
    tokenizer = text_tokenizer(tmp_path / "t")
    plain = " ".join(TEXT[:5])
    assert (
        tokenizer.encode(plain, add_special_tokens=False).ids
        == ours(plain, add_special_tokens=False)["input_ids"]
    )
    assert not {*range(6)} & {*tokenizer.encode("ba[SEP] [MASK][E1] lo").ids} - {1}


def test_a_given_folder_and_a_vocab_txt(tmp_path: Path) -> None:
    make(TrainedVocabulary(size=200), tmp_path / "t")
    make(GivenVocabulary(str(tmp_path / "t")), tmp_path / "folder")
    make(GivenVocabulary(str(tmp_path / "t" / "vocab.txt"), uncased=True), tmp_path / "txt")
    from transformers import AutoTokenizer

    prints = [fingerprint(AutoTokenizer.from_pretrained(tmp_path / name)) for name in ("t", "folder", "txt")]
    assert prints[0] == prints[1] == prints[2]


def test_what_is_no_vocabulary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    for given, message in (
        (GivenVocabulary(str(path)), "uncased: .* does not say"),
        (GivenVocabulary(str(tmp_path), uncased=True), "uncased: True is not accepted"),
    ):
        with pytest.raises(ValueError, match=message):
            make(given, tmp_path / "t")
    with pytest.raises(FileNotFoundError, match="no such file"):
        make(GivenVocabulary(str(path), uncased=True), tmp_path / "t")
    path.write_text("\n".join([*SPECIAL, "a", "a"]))
    with pytest.raises(ValueError, match="line 7: 'a' stands in line 6 already"):
        read_pieces(path)
    path.write_text("[PAD]\n[UNK]\n")
    with pytest.raises(ValueError, match=r"lacks \[CLS\], \[SEP\], \[MASK\]"):
        read_pieces(path)


def test_added_words_are_kept_and_special_ones_are_not(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    make(TrainedVocabulary(size=200), tmp_path / "t")
    tokenizer = Tokenizer.from_file(str(tmp_path / "t" / "tokenizer.json"))
    tokenizer.add_tokens(["balokemi"])
    ids = text_tokenizer(tokenizer).encode("balokemi [MASK]").ids
    assert ids[0] == 200
    assert 4 not in ids
    assert all(not t["special"] for t in json.loads(text_tokenizer(tokenizer).to_str())["added_tokens"])


@pytest.mark.parametrize("kind", ["Unigram", "WordPiece"])
def test_special_pieces_of_a_model_are_in_no_text(kind: str) -> None:
    """A model finds the pieces of its vocabulary in a text too, whatever `added_tokens` says."""
    from tokenizers import Tokenizer
    from tokenizers.models import Unigram, WordPiece
    from tokenizers.pre_tokenizers import WhitespaceSplit

    special, plain = ["<s>", "</s>", "<unk>"], ["<", ">", "/", "s", "old"]
    if kind == "Unigram":  # as SentencePiece writes them: special pieces have the best score there is
        scores = [*((piece, 0.0) for piece in special), *((piece, -3.0) for piece in plain)]
        tokenizer = Tokenizer(Unigram(scores, unk_id=2))
    else:
        marked = [*plain, *(f"##{piece}" for piece in plain)]
        vocabulary = {piece: number for number, piece in enumerate([*special, *marked])}
        tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="<unk>"))
        tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens(special)
    encoding = text_tokenizer(tokenizer).encode("<s> old </s> é")
    assert not {0, 1} & {*encoding.ids}
    assert 2 in encoding.ids, "what is unknown is still unknown"
    assert re.sub("##| ", "", "".join(encoding.tokens)).startswith("<s>old</s>")
    untouched = json.loads(tokenizer.to_str())
    untouched["added_tokens"] = []
    assert {0, 1} & {*Tokenizer.from_str(json.dumps(untouched)).encode("<s> old </s> é").ids}, "it would be"

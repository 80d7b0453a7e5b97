"""More pieces for a WordPiece tokenizer: what changes and what must not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from bertlab.sources.extended_tokenizer import (
    extend_tokenizer,
    longest_matches,
    next_id,
    old_spelling,
    read_new_pieces,
)
from tests.tokenizers import write_tokenizer

LETTERS = "abcdeo"
PIECES = [*LETTERS, *(f"##{letter}" for letter in LETTERS), "ab", "##cd", "bad", "##ade", "中"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, PIECES)
    return AutoTokenizer.from_pretrained(folder)


def split(tokenizer, text: str) -> list[str]:
    return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])


def test_new_pieces_are_found_and_old_ids_stay(tokenizer):
    extended = extend_tokenizer(tokenizer, ["abacd", "##oo"])
    assert split(tokenizer, "Abacd boo") == ["[CLS]", "ab", "##a", "##cd", "b", "##o", "##o", "[SEP]"]
    assert split(extended, "Abacd boo") == ["[CLS]", "abacd", "b", "##oo", "[SEP]"]
    assert len(extended) == len(tokenizer) + 2
    assert extended.get_vocab() == tokenizer.get_vocab() | {
        "abacd": len(tokenizer), "##oo": len(tokenizer) + 1,
    }  # fmt: skip
    assert extended("[MASK] a", add_special_tokens=False)["input_ids"][0] == tokenizer.mask_token_id


def test_the_tokenizer_itself_stays(tokenizer):
    before = tokenizer.backend_tokenizer.to_str()
    extend_tokenizer(tokenizer, ["abacd"])
    assert tokenizer.backend_tokenizer.to_str() == before
    assert "abacd" not in tokenizer.get_vocab()


def test_it_can_be_saved_and_loaded(tokenizer, tmp_path: Path):
    extended = extend_tokenizer(tokenizer, ["abacd", "##oo"])
    extended.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.get_vocab() == extended.get_vocab()
    assert split(loaded, "abacd, boo") == split(extended, "abacd, boo")
    assert read_new_pieces(str(tmp_path), tokenizer) == ["abacd", "##oo"]
    assert (loaded.model_max_length, loaded.mask_token) == (tokenizer.model_max_length, "[MASK]")


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    text=st.lists(st.text(LETTERS, min_size=1, max_size=8), max_size=6).map(" ".join),
    pieces=st.sets(st.text(LETTERS, min_size=2, max_size=4), min_size=1, max_size=3),
    ends=st.sets(st.text(LETTERS, min_size=2, max_size=3), max_size=2),
)
def test_a_text_without_new_pieces_is_split_as_before(tokenizer, text, pieces, ends):
    new = sorted((pieces | {f"##{end}" for end in ends}) - set(PIECES))
    extended = extend_tokenizer(tokenizer, new)
    after = extended(text)["input_ids"]
    if max(after) < len(tokenizer):
        assert after == tokenizer(text)["input_ids"]
    # However it is split, the text stays the same.
    assert extended.decode(after, clean_up_tokenization_spaces=False) == tokenizer.decode(
        tokenizer(text)["input_ids"], clean_up_tokenization_spaces=False
    )


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(word=st.text(LETTERS + "x", min_size=1, max_size=9))
def test_the_old_spelling_is_the_tokenizer_s(tokenizer, word):
    ids = tokenizer(word, add_special_tokens=False)["input_ids"]
    assert old_spelling(tokenizer, word) == ([] if ids == [tokenizer.unk_token_id] else ids)


def test_the_old_spelling_of_the_end_of_a_word(tokenizer):
    vocabulary = tokenizer.get_vocab()
    assert old_spelling(tokenizer, "##adecd") == [vocabulary["##ade"], vocabulary["##cd"]]
    assert old_spelling(tokenizer, "##zz") == []
    assert longest_matches("##", {"#": 1, "##": 2, "###": 3}) == [2]


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        (["bad"], r"\['bad'\] are in the vocabulary already"),
        (["ooo", "ooo"], r"\['ooo'\] are in the vocabulary already, or there more than once"),
        (["Bade"], "'Bade' can never occur: the tokenizer sees .*'bade'"),
        (["a b"], r"'a b' can never occur: the tokenizer sees \['a', 'b'\]"),
        (["a-b"], "'a-b' can never occur"),
        (["[NEW]"], "can never occur"),
        ([""], "'' can never occur"),
        (["中国"], "can never occur"),
        (["a" * 101], "takes words of at most 100 characters"),
    ],
)
def test_what_cannot_be_a_piece_is_refused(tokenizer, pieces, message):
    with pytest.raises(ValueError, match=message):
        extend_tokenizer(tokenizer, pieces)


def test_another_kind_of_tokenizer_is_refused():
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE()))
    with pytest.raises(ValueError, match="the tokenizer is a BPE; accepted: a WordPiece tokenizer"):
        extend_tokenizer(other, ["abc"])


def test_ids_follow_added_tokens(tokenizer):
    import copy

    with_added = copy.deepcopy(tokenizer)
    with_added.add_tokens(["<hashtag>"])
    assert next_id(with_added) == len(tokenizer) + 1
    extended = extend_tokenizer(with_added, ["ooo"])
    assert extended.get_vocab()["ooo"] == len(tokenizer) + 1
    assert split(extended, "<hashtag> ooo") == ["[CLS]", "<hashtag>", "ooo", "[SEP]"]


def test_a_file_of_pieces(tokenizer, tmp_path: Path):
    path = tmp_path / "pieces.txt"
    path.write_text("ooo\r\nbad\n\n  ##eo \nooo\n", encoding="utf-8", newline="")
    assert read_new_pieces(str(path), tokenizer) == ["ooo", "##eo"]
    assert read_new_pieces(["bad", "ooo", "ooo"], tokenizer) == ["ooo"]
    path.write_text("\n\n")
    with pytest.raises(ValueError, match=r"pieces.txt: no piece on any line"):
        read_new_pieces(str(path), tokenizer)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"pieces.txt: not UTF-8"):
        read_new_pieces(str(path), tokenizer)
    with pytest.raises(FileNotFoundError, match=r"new_pieces: .*none.txt: there is no such file or folder"):
        read_new_pieces(str(tmp_path / "none.txt"), tokenizer)


def test_a_tokenizer_that_is_no_extension(tokenizer, tmp_path: Path):
    write_tokenizer(tmp_path, [*PIECES[1:], "ooo"])
    with pytest.raises(
        ValueError, match=r"does not extend that of the encoder: \d+ pieces are missing or have"
    ):
        read_new_pieces(str(tmp_path), tokenizer)

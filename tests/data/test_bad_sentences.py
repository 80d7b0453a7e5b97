"""Every fault in a user's sentences is an error that names the file, its line or row, and says what is accepted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bertlab.data.token_classification import TokenClassificationData
from tests.data.files import jsonl, put, refused

GOOD = "".join(f"the O\nfilm B-x\n{n} I-x\n\n" for n in range(20))


def load(tokenizer: str, stage: str = "fit", **options: Any) -> TokenClassificationData:
    data = TokenClassificationData(tokenizer, **{"validation_fraction": 0, "test_fraction": 0} | options)
    data.setup(stage)
    return data


CONLL_FAULTS: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", r"x\.txt: the file is empty: it has no line with a word"),
    "blank": ("\n \n\t\n-DOCSTART- O\n\n", r"the file is empty: it has no line with a word"),
    "latin-1": (b"good O\ncaf\xe9 O\n", r"x\.txt: not UTF-8: byte 0xe9 at offset 10, line 2"),
    "one column": (
        "good\tO\nfilm\n",
        r"x\.txt: line 2 has 1 column \('film'\): conll_word 0 and conll_tag -1 are the same one\. A word and a tag",
    ),
    "a word with a space": (
        "good O\nNew York B-x\n",
        r"line 2 has 3 columns \('New York B-x'\), line 1 has 2: every line needs as many\. A word with a space",
    ),
    "no tag": ("good\tO\nfilm\t\n", r"x\.txt: there is no tag in line 2 \('film'\)"),
    "no prefix": (
        "the O\n\nfilm x\n",
        r"x\.txt: the tag 'x' in line 3 \('film'\) is none of scheme: bio\. Accepted: O, B-<type>, I-<type>; for tags "
        "without prefixes set scheme: none",
    ),
    "another scheme": ("the S-x\n", r"the tag 'S-x' in line 1 \('the'\) is none of scheme: bio"),
    "one class": (
        "the O\nfilm O\n",
        r"every word of the training split has the same tag \['O'\]; two classes",
    ),
}


@pytest.mark.parametrize("fault", CONLL_FAULTS)
def test_conll(tmp_path: Path, tokenizer_folder: str, fault: str) -> None:
    content, message = CONLL_FAULTS[fault]
    with refused(message):
        load(tokenizer_folder, source=put(tmp_path, "x.txt", content))


def test_too_few_columns_for_the_one_that_is_wanted(tmp_path: Path, tokenizer_folder: str) -> None:
    source = put(tmp_path, "x.conll", "good JJ O\nfilm NN\n")
    with refused(
        r"line 2 has 2 columns \('film NN'\), but conll_tag is 2, counted from 0\. Columns are",
    ):
        load(tokenizer_folder, source=source, conll_tag=2)
    with refused(r"line 1 has 3 columns .* but conll_word is 3"):
        load(tokenizer_folder, source=source, conll_word=3)


def test_tags_that_do_not_follow(tmp_path: Path, tokenizer_folder: str) -> None:
    source = put(tmp_path, "x.txt", "the O\nfilm I-x\nis I-y\n\ngood I-y\n\n" + GOOD)
    follow = r"x\.txt: the tag I-x after O in line 2 \('film'\) does not follow in scheme: bio"
    with pytest.warns(
        UserWarning, match=rf"{follow}; it is taken for B-x, as conlleval counts it\. Words like this: 3"
    ):
        data = load(tokenizer_folder, source=source)
    assert data.label_names is not None
    rows = data.splits("train")["train"]
    assert [data.label_names[label] for label in [*rows.labels[0], *rows.labels[1]]] == [
        "O",
        "B-x",
        "B-y",
        "B-y",
    ]
    with refused(rf"{follow}\. Correct it, or set broken_spans: repair, .* or scheme: iob1"):
        load(tokenizer_folder, source=source, broken_spans="error")
    source = put(tmp_path, "y.txt", "the B-x\nfilm O\n\nis E-x\n" + GOOD.replace("I-x", "E-x"))
    with pytest.warns(
        UserWarning, match=r"the tag B-x at the beginning of a sentence .* taken for S-x.* this: 2"
    ):
        load(tokenizer_folder, source=source, scheme="iobes")


def test_unknown_tag_in_another_split(tmp_path: Path, tokenizer_folder: str) -> None:
    files = {
        "train": put(tmp_path, "a.txt", GOOD),
        "test": put(tmp_path, "b.txt", "the O\n\nfilm B-z\nis B-y\n"),
    }
    with refused(
        r"b\.txt: unknown tag 'B-y', 'B-z' in line 3 \('film'\) and 1 more\. Accepted tags: O, B-x, I-x",
    ):
        load(tokenizer_folder, "test", files=files)


GOOD_ROW = {"words": ["the", "film"], "tags": ["O", "B-x"]}
JSONL_FAULTS = {
    "no column": (
        jsonl({"tokens": ["a"], "tags": ["O"]}),
        r"x\.jsonl: no column 'words' \(word_column: words\).*found are: tokens, tags",
    ),
    "no tag column": (jsonl({"words": ["a"]}), r"no column 'tags' \(tag_column: tags\).*found are: words"),
    "numbers differ": (
        jsonl(GOOD_ROW, {"words": ["a", "b"], "tags": ["O"]}),
        r"row 2 has 2 words \('words'\) and 1 tags \('tags'\)\. Every word needs one tag",
    ),
    "empty sentence": (
        jsonl(GOOD_ROW, {"words": [], "tags": []}),
        r"column 'words' has no words in row 2\. Fill",
    ),
    "missing sentence": (
        jsonl(GOOD_ROW, {"words": None, "tags": None}),
        r"column 'words' has no words in row 2",
    ),
    "a text": (
        jsonl({"words": "the film", "tags": ["O"]}),
        r"column 'words' \(word_column\) must hold lists, but row 1 holds a str: 'the film'\. A sentence is a list",
    ),
    "NaN sentences": ('{"words": NaN, "tags": ["O"]}\n', r"column 'words' has no words in row 1"),
    "NaN beside lists": (
        json.dumps(GOOD_ROW) + '\n{"words": NaN, "tags": ["O"]}\n',
        r"column 'words' has no words in row 2",
    ),
    "NaN within": (
        '{"words": ["a", NaN], "tags": ["O", "O"]}\n',
        r"column 'words', row 1: number 2 is missing",
    ),
    "missing word": (
        jsonl(GOOD_ROW, {"words": ["a", None], "tags": ["O", "O"]}),
        r"column 'words', row 2: number 2 is missing",
    ),
    "numbers for words": (
        jsonl({"words": [1, 2], "tags": ["O", "B-x"]}),
        r"column 'words' \(word_column\) must hold lists of texts, but row 1 has 1 in it",
    ),
    "NaN tag": ('{"words": ["a"], "tags": [NaN]}\n', r"column 'tags', row 1: number 1 is missing"),
    "no tag": (
        jsonl({"words": ["a", "b"], "tags": ["B-x", ""]}),
        r"there is no tag in row 1, word 2 \('b'\)",
    ),
    "numbers without names": (
        jsonl({"words": ["a", "b"], "tags": [0, 3]}),
        r"the tag '0' in row 1, word 1 \('a'\) is none of scheme: bio",
    ),
}


@pytest.mark.parametrize("fault", JSONL_FAULTS)
def test_jsonl(tmp_path: Path, tokenizer_folder: str, fault: str) -> None:
    content, message = JSONL_FAULTS[fault]
    with refused(message):
        load(tokenizer_folder, source=put(tmp_path, "x.jsonl", content))


def test_empty_sentences_can_be_dropped(tmp_path: Path, tokenizer_folder: str) -> None:
    source = put(
        tmp_path, "x.jsonl", jsonl(GOOD_ROW, {"words": [], "tags": []}, {"words": None, "tags": None})
    )
    with pytest.warns(UserWarning, match=r"x\.jsonl: 2 of 3 rows have no words and are dropped"):
        data = load(tokenizer_folder, source=source, empty_sentences="drop")
    assert data.class_counts().tolist() == [1, 1, 0]
    with refused("has no words in rows 2, 3"):
        load(tokenizer_folder, "predict", predict_source=source, empty_sentences="drop")


def test_files_that_are_not_read(tmp_path: Path, tokenizer_folder: str) -> None:
    accepted = r"Accepted: \.jsonl, \.parquet, \.conll, \.txt"
    with refused(rf"x\.csv: format \.csv is not read\. {accepted}"):
        load(tokenizer_folder, source=put(tmp_path, "x.csv", "a,O\n"))
    with refused(r"nothing\.txt: no such file", FileNotFoundError):
        load(tokenizer_folder, source=str(tmp_path / "nothing.txt"))
    with refused(r"no file train with one of the endings \.jsonl.* holds x\.csv", FileNotFoundError):
        load(tokenizer_folder, source=str(tmp_path))
    with refused(r"packaged:sms_spam is something else\. Packaged sets of tagged sentences"):
        load(tokenizer_folder, source="packaged:sms_spam")


CLASHES: dict[str, tuple[dict[str, Any], str]] = {
    "fraction": ({"test_fraction": 1.5}, r"test_fraction: 1\.5 is not in \[0, 1\)"),
    "names twice": ({"label_names": ["O", "B-x", "B-x", "I-x"]}, r"label_names: a name occurs twice"),
    "names of no scheme": ({"label_names": ["O", "x"]}, r"label_names: x: none of scheme: bio"),
    "names too few": ({"label_names": ["O", "B-x"]}, r"unknown tag 'I-x' in line 3 \('0'\) and 19 more"),
    "no test split": ({}, "There is no test split: the source has train, and test_fraction is 0"),
}


@pytest.mark.parametrize("clash", CLASHES)
def test_clashing_arguments(tmp_path: Path, tokenizer_folder: str, clash: str) -> None:
    options, message = CLASHES[clash]
    with refused(message, after_tokenising=clash == "no test split"):
        load(tokenizer_folder, source=put(tmp_path, "x.txt", GOOD), **options).test_dataloader()


def test_no_unknown_token_for_a_word_without_pieces(tmp_path: Path, tokenizer_folder: str) -> None:
    source = put(tmp_path, "x.txt", "\u200d O\nfilm B-x\n")
    data = TokenClassificationData(tokenizer_folder, source, validation_fraction=0, test_fraction=0)
    data.tokenizer.unk_token = None
    with refused(r"makes nothing of 1 words, such as '\\u200d', and has no unknown token"):
        data.setup("fit")

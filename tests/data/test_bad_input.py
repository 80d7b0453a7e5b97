"""Every fault in a user's data is an error that names the file and the row or the key, and says what is accepted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertlab.data.text_classification import TextClassificationData
from tests.data.files import jsonl, put, refused

GOOD = "text,label\n" + "".join(f"text number {n},{'ab'[n % 2]}\n" for n in range(40))


def load(tokenizer: str, stage: str = "fit", **options: Any) -> TextClassificationData:
    data = TextClassificationData(tokenizer, **options)
    data.setup(stage)
    return data


CSV_FAULTS = {
    "empty": ("", r"data\.csv: the file is empty"),
    "header only": ("text,label\n", r"data\.csv: the file has no rows, only columns text, label"),
    "blank lines": ("\n\r\n\n", r"data\.csv: the file is empty: it has nothing but blank lines"),
    "a byte order mark alone": (b"\xef\xbb\xbf", r"data\.csv: the file is empty"),
    "UTF-16": (
        "text,label\nx,a\n".encode("utf-16"),
        r"data\.csv: not UTF-8: byte 0xff at offset 0, line 1.*iconv -f utf16",
    ),
    "latin-1": (b"text,label\ngood,a\ncaf\xe9,b\n", r"data\.csv: not UTF-8: byte 0xe9 at offset 21, line 3"),
    "wrong column": (
        "sentence,label\nx,a\n",
        r"no column 'text' \(text_column: text\).*found are: sentence, label",
    ),
    "no label column": (
        "text,class\nx,a\n",
        r"no column 'label' \(label_column: label\).*found are: text, class",
    ),
    "a space in the header": (
        "text, label\nx,a\n",
        r"no column 'label' .*found are: text,  label\. ' label' differs from it by spaces or case alone",
    ),
    "tabs": ("text\tlabel\nx\ta\n", r"no column 'text' .*The header is one field with tabs in it"),
    "labels that spaces tell apart": (
        "text,label\nx,ham\ny,spam\nz,spam \n",
        r"data\.csv: the labels 'spam' \(row 2\) and 'spam ' \(row 3\) differ by spaces alone",
    ),
    "ragged": (
        "text,label\nx,a\ny,z,b\n",
        r"data\.csv: row 2 \(line 3\) has 3 fields where the header has 2",
    ),
    "short row": ("text,label\nx\n", r"data\.csv: row 1 \(line 2\) has 1 fields"),
    "open quote": (
        'text,label\n"x,a\ny,b\n',
        r"data\.csv: line 3: unexpected end of data.*Quotes may be unbalanced",
    ),
    "column twice": ("text,text\nx,a\n", r"columns named twice: text"),
    "one class": ("text,label\nx,a\ny,a\n", r"every training row has the same label \['a'\]; two classes"),
    "empty texts": ("text,label\nx,a\n,b\n  ,b\n", r"column 'text' has no text in rows 2, 3"),
    "no label": ("text,label\nx,a\ny,\n", r"data\.csv: there is no label in row 2"),
}


@pytest.mark.parametrize("fault", CSV_FAULTS)
def test_csv(tmp_path: Path, tokenizer_folder: str, fault: str) -> None:
    content, message = CSV_FAULTS[fault]
    with refused(message):
        load(tokenizer_folder, source=put(tmp_path, "data.csv", content))


JSONL_FAULTS = {
    "not json": ('{"text": "x"\n', r"data\.jsonl: line 1 is not JSON"),
    "not an object": ('{"text": "x", "label": "a"}\n[1]\n', r"line 2 is not a JSON object: \[1\]"),
    "mixed labels": (
        jsonl({"text": "x", "label": "1"}, {"text": "y", "label": 1}, {"text": "z", "label": "spam"}),
        r"column label holds values of more than one type: str \(first in row 1: '1'\), number \(first in row 2: 1\)",
    ),
    "missing text": (
        jsonl({"text": "x", "label": "a"}, {"label": "b"}),
        r"column 'text' has no text in row 2",
    ),
    "NaN text": (
        '{"text": NaN, "label": "a"}\n{"text": NaN, "label": "b"}\n',
        r"column 'text' has no text in rows 1, 2",
    ),
    "numbers for texts": (
        jsonl({"text": 1, "label": "a"}),
        r"must hold texts, but row 1 hold int.* such as 1",
    ),
    "fraction labels": (
        jsonl({"text": "x", "label": 0.5}, {"text": "y", "label": 1.5}),
        r"label of row 1 is 0\.5, a float\. Accepted: names or whole numbers; for fractions set problem: regression",
    ),
    "mixed inside lists": (
        jsonl({"text": "x", "label": ["a"]}, {"text": "y", "label": [1]}),
        r"column label cannot be read",
    ),
}


@pytest.mark.parametrize("fault", JSONL_FAULTS)
def test_jsonl(tmp_path: Path, tokenizer_folder: str, fault: str) -> None:
    content, message = JSONL_FAULTS[fault]
    with refused(message):
        load(tokenizer_folder, source=put(tmp_path, "data.jsonl", content))


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_rows_whose_text_is_null_or_nan_can_be_dropped(
    kind: str, tmp_path: Path, tokenizer_folder: str
) -> None:
    texts = [f"good {row}" if row % 4 else None for row in range(40)]
    labels = ["ab"[row % 2] for row in range(40)]
    source = str(tmp_path / f"gaps.{kind}")
    if kind == "parquet":
        pq.write_table(pa.table({"text": texts, "label": labels}), source)
    else:  # as Python writes what pandas has for a missing text
        rows = [{"text": text or math.nan, "label": label} for text, label in zip(texts, labels, strict=True)]
        put(tmp_path, "gaps.jsonl", jsonl(*rows))
    with pytest.warns(UserWarning, match=r"gaps\.\w+: 10 of 40 rows have no text and are dropped"):
        data = load(
            tokenizer_folder, source=source, empty_texts="drop", test_fraction=0, validation_fraction=0
        )
    assert data.class_counts().tolist() == [10, 20]


@pytest.mark.parametrize(
    ("column", "message"),
    [("text", r"no text in rows 1, 2"), ("label", "no label in row 1"), ("id", "no id in row 1")],
)
def test_nan_in_parquet_is_missing(column: str, message: str, tmp_path: Path, tokenizer_folder: str) -> None:
    columns = {"text": ["x", "y"], "label": ["a", "b"], "id": ["1", "2"], column: [math.nan, math.nan]}
    pq.write_table(pa.table(columns), tmp_path / "data.parquet")
    with refused(message):
        load(tokenizer_folder, source=str(tmp_path / "data.parquet"), id_column="id")


def test_rows_without_a_text_can_be_dropped(tmp_path: Path, tokenizer_folder: str) -> None:
    source = put(tmp_path, "gaps.csv", GOOD + " ,a\n,b\n")
    with pytest.warns(UserWarning, match=r"gaps\.csv: 2 of 42 rows have no text and are dropped"):
        data = load(
            tokenizer_folder, source=source, empty_texts="drop", test_fraction=0, validation_fraction=0
        )
    assert data.class_counts().tolist() == [20, 20]
    with refused(r"gaps\.csv: column 'text' has no text in rows 41, 42"):
        load(tokenizer_folder, "predict", predict_source=source, empty_texts="drop")


def test_missing_file_folder_and_format(tmp_path: Path, tokenizer_folder: str) -> None:
    with refused(r"nothing\.csv: no such file. Accepted: a file that ends in \.csv", FileNotFoundError):
        load(tokenizer_folder, source=str(tmp_path / "nothing.csv"))
    put(tmp_path, "notes.txt", "x")
    with refused(r"no file train with one of the endings .* holds notes\.txt", FileNotFoundError):
        load(tokenizer_folder, source=str(tmp_path))
    with refused(r"notes\.txt: format \.txt is not read. Accepted: \.csv, \.tsv"):
        load(tokenizer_folder, source=str(tmp_path / "notes.txt"))
    with refused(r"broken\.parquet: cannot be read as Parquet"):
        load(tokenizer_folder, source=put(tmp_path, "broken.parquet", "not parquet"))
    put(tmp_path, "train.csv", GOOD)
    put(tmp_path, "train.tsv", GOOD)
    with refused(r"more than one file for train: train\.csv, train\.tsv"):
        load(tokenizer_folder, source=str(tmp_path))


def test_no_hub(tokenizer_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with refused(r"source: nobody/nothing is neither a file or folder here nor", FileNotFoundError):
        load(tokenizer_folder, source="nobody/nothing")


def test_unknown_label_in_another_split(tmp_path: Path, tokenizer_folder: str) -> None:
    files = {
        "train": put(tmp_path, "a.csv", GOOD),
        "test": put(tmp_path, "b.csv", "text,label\nx,a\ny,c\nz,d\n"),
    }
    with refused(r"b\.csv: unknown label 'c', 'd' in rows 2, 3\. Accepted labels: a, b\."):
        load(tokenizer_folder, "test", files=files)


def test_label_names_that_do_not_fit(tmp_path: Path, tokenizer_folder: str) -> None:
    source = put(tmp_path, "a.csv", GOOD)
    with refused(r"label_names: c: no training row of .*a\.csv has it. Labels found: a, b"):
        load(tokenizer_folder, source=source, label_names=["a", "b", "c"])
    with refused(r"unknown label 'b' in rows 2, 4, .* and 10 more\. Accepted labels: a, c"):
        load(tokenizer_folder, source=source, label_names=["a", "c"])
    with refused(r"label_names: a name occurs twice in \['a', 'b', 'a'\]"):
        load(tokenizer_folder, source=source, label_names=["a", "b", "a"])


def test_a_class_absent_from_a_split(tmp_path: Path, tokenizer_folder: str) -> None:
    lone = put(tmp_path, "lone.csv", GOOD + "only one,c\n")
    with pytest.warns(UserWarning, match=r"The test split has no row of c"):
        data = load(tokenizer_folder, source=lone)
    assert data.class_counts()[2] == 1, "the only row of a class is for training"
    files = {
        "train": put(tmp_path, "t.csv", "text,label\nx,a\ny,b\nz,c\n"),
        "validation": put(tmp_path, "v.csv", "text,label\nz,c\nw,a\nu,b\n"),
    }
    with refused(r"t\.csv: no training row is left of the classes c"):
        load(tokenizer_folder, files=files, deduplicate=True, test_fraction=0)


def test_regression_targets(tmp_path: Path, tokenizer_folder: str) -> None:
    source = put(tmp_path, "r.csv", "text,label\nx,1.5\ny,high\n")
    with refused(r"r\.csv: the target of row 2 is 'high'; regression needs a finite number"):
        load(tokenizer_folder, source=source, problem="regression")
    source = put(tmp_path, "n.csv", "text,label\nx,1.5\ny,nan\n")
    with refused(r"the target of row 2 is 'nan'"):
        load(tokenizer_folder, source=source, problem="regression")


def test_duplicate_ids(tmp_path: Path, tokenizer_folder: str) -> None:
    source = put(tmp_path, "i.csv", "key,text,label\nk1,x,a\nk2,y,b\nk1,z,a\n")
    with refused(r"column 'key' has the id 'k1' twice, in rows 1 and 3"):
        load(tokenizer_folder, source=source, id_column="key")
    table = pa.table({"key": [1, None], "text": ["x", "y"], "label": ["a", "b"]})
    pq.write_table(table, tmp_path / "i.parquet")
    with refused(r"column 'key' has no id in row 2"):
        load(tokenizer_folder, source=str(tmp_path / "i.parquet"), id_column="key")


CLASHES: dict[str, tuple[dict[str, Any], str]] = {
    "source and files": ({"source": "a.csv", "files": {"train": "b.csv"}}, "source, files: both are given"),
    "neither": ({}, "source, files: neither is given"),
    "subset of a file": (
        {"source": "packaged:sms_spam", "subset": "x"},
        "subset: 'x' is only for a hub data set",
    ),
    "unknown split": (
        {"files": {"train": "a", "dev": "b"}},
        "files: dev is not a split. Accepted: train, val",
    ),
    "names for a regression": (
        {"problem": "regression", "label_names": ["a"]},
        "label_names: .* has no classes",
    ),
    "fractions": ({"validation_fraction": 0.5, "test_fraction": 0.5}, "leave no row for training"),
    "fraction": ({"test_fraction": -0.1}, r"test_fraction: -0\.1 is not in \[0, 1\)"),
    "resampling": ({"resampling_power": 2.0}, r"resampling_power: 2\.0 is not in \[0, 1\]"),
    "resampling many labels": (
        {"problem": "multi_label", "resampling_power": 0.5},
        "needs problem: single_label, but problem is multi_label",
    ),
}


@pytest.mark.parametrize("clash", CLASHES)
def test_clashing_arguments(tokenizer_folder: str, clash: str) -> None:
    options, message = CLASHES[clash]
    with refused(message):
        load(tokenizer_folder, **options)


def test_max_length_out_of_range(tmp_path: Path, tokenizer_folder: str) -> None:
    for max_length in (2, 513):
        with refused(rf"max_length: {max_length} .* takes 3 to 512 tokens \(2 of them special"):
            load(tokenizer_folder, source=put(tmp_path, "a.csv", GOOD), max_length=max_length)


def test_no_such_split(tmp_path: Path, tokenizer_folder: str) -> None:
    data = load(tokenizer_folder, source=put(tmp_path, "a.csv", GOOD), test_fraction=0, validation_fraction=0)
    assert data.val_dataloader() == []
    with refused("There is no test split: the source has train, and test_fraction is 0"):
        data.test_dataloader()


def test_too_few_rows_for_a_split(tmp_path: Path, tokenizer_folder: str) -> None:
    with refused(r"a\.csv: 2 different texts are too few to make a validation and a test split"):
        load(tokenizer_folder, source=put(tmp_path, "a.csv", "text,label\nx,a\ny,b\n"))


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    """Of a model alone transformers makes a tokenizer that knows no word, with which training would learn nothing."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 30}))
    with refused(r"tokenizer: .* has no vocabulary.*Accepted: "):
        load(str(tmp_path), source=put(tmp_path, "a.csv", GOOD))
    with refused(r"tokenizer: 'nobody/nothing' cannot be read"):
        load("nobody/nothing", source=put(tmp_path, "a.csv", GOOD))


def test_code_that_comes_with_a_tokenizer_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\nclass Mine: ...\n")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mine"}))
    settings = {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", "mine.Mine"]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with refused(r"tokenizer: .* cannot be read"):
        load(str(tmp_path), source=put(tmp_path, "a.csv", GOOD))
    assert not (tmp_path / "executed").exists()

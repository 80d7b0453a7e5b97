"""Text as it comes: right results or clear errors, never a wrong store."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertlab.corpus.document import Document
from bertlab.corpus.reader import Reader
from bertlab.corpus.readers import GoogleFormat, JsonLines, Parquet, PlainText
from bertlab.corpus.text_stream import lines
from bertlab.corpus.token_store import TokenStore
from tests.corpus.corpus_text import corpus, google_text, write_config
from tests.corpus.test_build import texts

LIMIT = 1_000_000


def error(tmp_path: Path, capsys: pytest.CaptureFixture[str], **changes: object) -> str:
    """What the command says; nothing is left of the store."""
    with pytest.raises(SystemExit) as end:
        corpus(write_config(tmp_path, **changes))
    assert end.value.code == 1
    assert not (tmp_path / "small").exists()
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "text.txt: the file is empty"),
        (b"\n \n\r\n", "documents: there is no text in them"),
        (b"abc\n" * 9 + b"\x00\x01", "text.txt: byte 0x00 at offset 36: not a text file"),
        (b"caf\xe9 au lait", "text.txt: not UTF-8: byte 0xe9 at offset 3"),
        (b"\xef\xbb\xbfcaf\xe9 au lait", "text.txt: not UTF-8: byte 0xe9 at offset 6"),
        ("größe".encode("utf-16"), "byte 0x00 at offset 3: not a text file (or UTF-16"),
        (b"x" * (1 << 20) + b"\xe4", "byte 0xe4 at offset 1048576"),
    ],
)
def test_what_is_no_text_is_refused(
    raw: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_bytes(raw)
    assert message in error(tmp_path, capsys)


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "text.txt names no file" in error(tmp_path, capsys)


def test_all_rejected_is_an_error_that_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("Too short.\n\nThis too.\n")
    cleaning = {"class_path": "bertlab.corpus.cleaning.Cleaner", "init_args": {"min_words": 99}}
    message = error(tmp_path, capsys, cleaning=cleaning)
    assert "none of the 2 documents is left: {'too_few_words': 2}" in message


def test_one_document_and_one_sentence_documents(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("One sentence alone.\n\nAnother one.\n\n\n\nA third.")
    corpus(write_config(tmp_path))
    store = TokenStore.open(tmp_path / "small")
    assert store.document_starts.tolist() == [0, 1, 2, 3]
    (tmp_path / "text.txt").write_text("The first.\nThe second.\n")
    corpus(write_config(tmp_path, name="other"))
    assert texts(TokenStore.open(tmp_path / "other")) == [["the first .", "the second ."]]


def test_crlf_and_byte_order_mark_change_nothing(tmp_path: Path) -> None:
    text = google_text(10)
    (tmp_path / "text.txt").write_text(text)
    corpus(write_config(tmp_path))
    (tmp_path / "text.txt").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    corpus(write_config(tmp_path, name="crlf"))
    stores = [TokenStore.open(tmp_path / name) for name in ("small", "crlf")]
    assert texts(stores[0]) == texts(stores[1])
    assert (tmp_path / "small/tokens.bin").read_bytes() == (tmp_path / "crlf/tokens.bin").read_bytes()


@pytest.mark.parametrize("unit", ["file", "line"])
def test_a_line_of_ten_megabytes(unit: str, tmp_path: Path) -> None:
    sentence = "The quick brown fox jumps over the lazy dog again. "
    count = 10_000_000 // len(sentence)
    (tmp_path / "text.txt").write_text(sentence * count + "\nAnother line." * (unit == "line"))
    splitter = {"class_path": "bertlab.corpus.sentences.SentenceSplitter"}
    reader = {
        "class_path": "bertlab.corpus.readers.PlainText",
        "init_args": {"path": str(tmp_path / "text.txt"), "document": unit},
    }
    corpus(
        write_config(tmp_path, documents=[reader], sentences=splitter, shard_characters=2_000_000),
        "--vocabulary.max_characters=100000",
    )
    store = TokenStore.open(tmp_path / "small")
    summary = json.loads((tmp_path / "small/summary.json").read_text())
    more = 2 * (unit == "line")
    assert summary["words"] == 10 * count + more, "cut between words alone"
    assert len(store.tokens) >= 11 * count
    texts_of = np.array(store.document_texts)
    assert np.diff(texts_of).tolist() == [0] * (10_000_000 // LIMIT - 1) + [1] * (unit == "line")
    assert summary["read"]["further_parts"] == 10_000_000 // LIMIT - 1


def test_a_word_of_ten_megabytes_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(google_text(3) + "x" * 10_000_000)
    corpus(write_config(tmp_path))
    assert json.loads((tmp_path / "small/summary.json").read_text())["unknown_pieces"] == 10


def test_what_looks_like_a_special_token_is_text(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(google_text(20) + "Write [SEP] and [MASK] or [cls] [UNK].\n")
    corpus(write_config(tmp_path))
    store = TokenStore.open(tmp_path / "small")
    assert texts(store)[-1] == ["write [ sep ] and [ mask ] or [ cls ] [ unk ] ."]
    assert int(store.tokens.min()) >= 5, "no special token has a place in a store"


def test_emoji_cjk_and_accents(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("Ünïted 北京人 🙂🙂 ok\u0301.\n" * 3, encoding="utf-8")
    corpus(write_config(tmp_path))
    store = TokenStore.open(tmp_path / "small")
    assert texts(store) == [["united 北 京 人 🙂🙂 ok ."] * 3]
    cased = {
        "class_path": "bertlab.corpus.vocabulary.TrainedVocabulary",
        "init_args": {"size": 300, "lowercase": False},
    }
    corpus(write_config(tmp_path, name="cased", vocabulary=cased))
    assert texts(TokenStore.open(tmp_path / "cased"))[0][0].startswith("Ünïted 北 京 人")


def documents(reader: Reader) -> list[Document]:
    return list(reader.documents(LIMIT))


def test_google_format_goes_on_over_the_end_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\nA one.\nA two.\n\nB one.\n")
    (tmp_path / "b.txt").write_text("B two.\n  \n\nC one.")
    found = documents(GoogleFormat(str(tmp_path / "*.txt")))
    assert [d.text for d in found] == ["A one.\nA two.", "B one.\nB two.", "C one."]
    assert all(d.has_sentences for d in found)


def test_plain_text_by_file_paragraph_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n\nthree\n")
    (tmp_path / "b.txt").write_text("four")
    path = str(tmp_path)
    assert [d.text for d in documents(PlainText(path))] == ["one\ntwo\n\nthree", "four"]
    assert [d.text for d in documents(PlainText(path, "paragraph"))] == ["one\ntwo", "three", "four"]
    assert [d.text for d in documents(PlainText(path, "line"))] == ["one", "two", "three", "four"]


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    rows = [{"text": "one\ntwo"}, {"text": " "}, {"text": "half \ud800", "id": 3}]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    assert [d.text for d in documents(JsonLines(str(path)))] == ["one\ntwo", "half \ud800"]
    with pytest.raises(ValueError, match=r"line 1 has no string under text_key 'body'; it has: text"):
        documents(JsonLines(str(path), text_key="body"))
    (tmp_path / "gaps.jsonl").write_text('{"text": null}\n{"text": "a"}\n{"text": NaN}\n{"text": "b"}\n')
    assert [d.text for d in documents(JsonLines(str(tmp_path / "gaps.jsonl")))] == ["a", "b"]
    (tmp_path / "number.jsonl").write_text('{"text": "a"}\n{"text": 7}\n')
    with pytest.raises(
        ValueError, match=r"number\.jsonl: line 2 has no string under text_key 'text' but 7\."
    ):
        documents(JsonLines(str(tmp_path / "number.jsonl")))
    (tmp_path / "b.jsonl").write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises(ValueError, match=r"b\.jsonl: line 2 is not JSON"):
        documents(JsonLines(str(tmp_path / "b.jsonl")))


def test_parquet(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["one", None, "two"], "n": [1, 2, 3]}), path)
    assert [d.text for d in documents(Parquet(path))] == ["one", "two"]
    with pytest.raises(
        ValueError, match=r"no column of strings named text_column 'n'; it has: text \(string\)"
    ):
        documents(Parquet(path, text_column="n"))
    (tmp_path / "a.parquet").write_text("no")
    with pytest.raises(ValueError, match=r"a\.parquet: cannot be read as Parquet"):
        documents(Parquet(path))


def test_parquet_with_a_damaged_page(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"text number {n} " * 9 for n in range(300)]}), path)
    raw = bytearray(path.read_bytes())
    raw[60:200] = bytes(140)
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"a\.parquet: cannot be read as Parquet"):
        documents(Parquet(str(path)))


def test_parquet_that_is_not_utf_8(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    values = pa.array([b"fine", None, b"caf\xe9 au lait"]).view(pa.string())
    pq.write_table(pa.table({"text": values}), path)
    with pytest.raises(
        ValueError, match=r"a\.parquet: row 3 is not UTF-8 in text_column 'text' \(.* at byte 3\)"
    ):
        documents(Parquet(path))


def test_parquet_with_two_columns_of_one_name(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), path)
    with pytest.raises(ValueError, match=r"a\.parquet: 2 columns are named text_column 'text'"):
        documents(Parquet(path))


@pytest.mark.parametrize("output", [".", "..", "/"])
def test_a_store_has_a_folder_of_its_own(
    output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text("A sentence of six words.\n")
    assert f"output: '{output}' is not accepted" in error(tmp_path, capsys, output=output)


def test_a_hub_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    from bertlab.corpus.readers import HubDataset

    def load(path: str, name: str | None, split: str, streaming: bool, revision: str | None) -> object:
        assert (path, name, split, streaming, revision) == ("a/b", "20231101.en", "train", True, None)
        return datasets.Dataset.from_dict(
            {"text": [None, "one", None, "two"], "id": [1, 2, 3, 4]}
        ).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load)
    reader = HubDataset("a/b", "20231101.en")
    assert [d.text for d in documents(reader)] == ["one", "two"]
    with pytest.raises(ValueError, match="row 0 has no string in text_column 'body'; it has: text, id"):
        documents(HubDataset("a/b", "20231101.en", text_column="body"))
    with pytest.raises(ValueError, match="row 0 has no string in text_column 'id'; it has: text, id"):
        documents(HubDataset("a/b", "20231101.en", text_column="id"))


def test_lines_of_any_ends_and_replaced_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\r\nb\rc\n\nd \xff e")
    assert list(lines(path, "replace")) == ["a", "b", "c", "", "d \ufffd e"]
    assert list(lines(path, "replace", limit=3)) == ["a", "b", "c", "", "d", "\ufffd e"]


def test_a_character_across_two_blocks_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertlab.corpus.text_stream.BLOCK_BYTES", 3)
    path = tmp_path / "a.txt"
    path.write_bytes("äöü€\r\nß".encode())
    assert list(lines(path)) == ["äöü€", "ß"]
    path.write_bytes("ää€".encode()[:-1] + b"x")
    with pytest.raises(ValueError, match="byte 0xe2 at offset 4"):
        list(lines(path))

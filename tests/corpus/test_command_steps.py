"""Readers and filters that are chosen in the configuration of `bertlab corpus`, or by its flags."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertlab.corpus.token_store import TokenStore
from tests.corpus.corpus_text import content, corpus, document, google_text, write_config
from tests.corpus.test_build import texts

DOCUMENTS = ["\n".join(document(number)) for number in range(12)]


def json_lines(folder: Path) -> dict[str, Any]:
    rows = [json.dumps({"id": n, "body": text}) for n, text in enumerate(DOCUMENTS)]
    (folder / "text.jsonl.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    return reader("readers.JsonLines", folder / "text.jsonl.gz", text_key="body")


def parquet(folder: Path) -> dict[str, Any]:
    for part in (0, 1):
        rows = [*DOCUMENTS[6 * part : 6 * part + 6], None]
        pq.write_table(pa.table({"n": list(range(7)), "body": rows}), folder / f"{part}.parquet")
    return reader("readers.Parquet", folder / "*.parquet", text_column="body")


def table(folder: Path, ending: str = "csv", separator: str = ",") -> dict[str, Any]:
    with (folder / f"text.{ending}").open("w", newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerows([("label", "body"), *(("ham", text) for text in DOCUMENTS)])
    return reader("table.Table", folder / f"text.{ending}", text_column="body")


def reader(name: str, path: Path, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"bertlab.corpus.{name}", "init_args": {"path": str(path), **arguments}}


KINDS = {
    "json lines": json_lines,
    "parquet": parquet,
    "csv": table,
    "tsv": lambda folder: table(folder, "tsv", "\t"),
}


@pytest.fixture(scope="module")
def of_google_format(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The store of the same documents in Google's format."""
    folder = tmp_path_factory.mktemp("google")
    (folder / "text.txt").write_text(google_text(12))
    corpus(write_config(folder))
    return content(folder / "small")


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_of_another_format_gives_the_same_store(
    kind: str, of_google_format: dict[str, bytes], tmp_path: Path
) -> None:
    corpus(write_config(tmp_path, documents=[KINDS[kind](tmp_path)]))
    store = content(tmp_path / "small")
    meta, other = (json.loads(files.pop("meta.json")) for files in (store, dict(of_google_format)))
    assert store == {name: data for name, data in of_google_format.items() if name != "meta.json"}
    assert meta["counts"] == other["counts"]
    assert len(meta["sources"]) == (2 if kind == "parquet" else 1)


ENGLISH = "The committee will meet again on Thursday to vote on the proposal."
GERMAN = "Der Ausschuss tritt am Donnerstag erneut zusammen, um abzustimmen."
PERSONAL = (
    "Write to ann.lee@mail.example.org, or call (212) 555-0175 from 8.8.8.8, before the committee will meet on the "
    "proposal this week."
)


@pytest.fixture
def own_text(tmp_path: Path) -> Path:
    """The configuration of three documents, with a cleaner that changes nothing in them."""
    (tmp_path / "text.txt").write_text(f"{ENGLISH}\n\n{GERMAN}\n\n{PERSONAL}\n")
    return write_config(
        tmp_path,
        cleaning={"class_path": "bertlab.corpus.cleaning.Cleaner"},
        vocabulary={
            "class_path": "bertlab.corpus.vocabulary.TrainedVocabulary",
            "init_args": {"size": 200, "min_frequency": 1},
        },
    )


def built(config: Path, *flags: str) -> tuple[dict[str, Any], list[str]]:
    """The summary of a build, and the sentences of its store without blanks."""
    corpus(config, *flags)
    summary = json.loads((config.parent / "small" / "summary.json").read_text())
    found = texts(TokenStore.open(config.parent / "small"))
    return summary, [sentence.replace(" ", "") for sentences in found for sentence in sentences]


def plain(text: str) -> str:
    return text.lower().replace(" ", "")


def test_without_filters_all_stays(own_text: Path) -> None:
    summary, sentences = built(own_text)
    assert summary["rejected"] == {}
    assert sentences == [plain(text) for text in (ENGLISH, GERMAN, PERSONAL)]


def test_languages_by_a_flag(own_text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary, sentences = built(own_text, "--cleaning.init_args.languages=[en]")
    assert summary["rejected"] == {"language": 1}
    assert sentences == [plain(ENGLISH), plain(PERSONAL)]
    with pytest.raises(SystemExit):
        corpus(own_text)
    assert "cleaning.languages: ['en'] there, None asked for" in capsys.readouterr().err


def test_personal_data_by_a_flag(own_text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary, sentences = built(own_text, "--cleaning.init_args.personal_data=[email, phone]")
    assert summary["rejected"] == {}
    replaced = PERSONAL.replace("ann.lee@mail.example.org", "email").replace("(212) 555-0175", "phone")
    assert sentences == [plain(text) for text in (ENGLISH, GERMAN, replaced)]
    with pytest.raises(SystemExit):
        corpus(own_text, "--cleaning.init_args.personal_data=[email]")
    assert "cleaning.personal_data" in capsys.readouterr().err

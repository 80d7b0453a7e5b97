"""What a process keeps: memory that a step freed, seen by its page faults; programs of oneDNN, which tells of them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from bertlab.allocator import keep_few_programs, keep_freed_memory

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


#: Convolutions of 300 lengths, which oneDNN computes in float32 on any x86, and then the first again.
MANY = """
import torch
from bertlab.allocator import keep_few_programs

keep_few_programs()
kernel = torch.ones(8, 8, 3)
for length in [*range(100, 400), 100]:
    print(length, flush=True)
    torch.conv1d(torch.ones(2, 8, length), kernel)
"""


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")
@pytest.mark.parametrize("name", [None, "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY"])
def test_few_programs_are_kept_unless_the_environment_says_how_many(name: str | None) -> None:
    clean = {key: value for key, value in os.environ.items() if "CACHE_CAPACITY" not in key}
    wanted = {} if name is None else {name: "5000"}
    command = [sys.executable, "-c", MANY]
    environment = clean | wanted | {"ONEDNN_VERBOSE": "2"}
    told = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    first, last = told.split("\n100\n")[-2:]
    assert "convolution" in first
    assert ("cache_miss,cpu,convolution" in last) == (name is None)


def test_torch_keeps_few_programs_of_its_own_unless_the_environment_says_how_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "environ", {})
    keep_few_programs()
    assert os.environ["LRU_CACHE_CAPACITY"] == "1"
    monkeypatch.setattr(os, "environ", {"LRU_CACHE_CAPACITY": "7"})
    keep_few_programs()
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"

"""A plan of two ranks: the same steps as of one, on the same data; one of them writes it."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.system.tiny_project import bertlab, bertlab_from_scratch, write_project


def rows(folder: Path, number: int) -> list[dict[str, str]]:
    with (folder / f"runs/run/plans/{number}/plan.csv").open() as file:
        return list(csv.DictReader(file))


def test_ddp(tmp_path: Path) -> None:
    config = str(write_project(tmp_path))
    bertlab(tmp_path, "plan", "--config", config, "--plan.timed_steps=0")
    two = ["--trainer.devices=2", "--trainer.strategy=ddp", "--plan.timed_steps=1"]
    done = bertlab_from_scratch(tmp_path, "plan", "--config", config, *two)
    assert done.stdout.count("what trains when") == 1
    assert "2 × cpu" in done.stdout
    assert sorted(path.name for path in (tmp_path / "runs/run/plans").iterdir()) == ["0", "1"]
    measured = ("seconds", "memory")
    one, other = (rows(tmp_path, number) for number in range(2))
    assert [{k: v for k, v in row.items() if k not in measured} for row in one] == [
        {k: v for k, v in row.items() if k not in measured} for row in other
    ]
    assert all(float(row["seconds"]) > 0 for row in other)

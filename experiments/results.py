"""What a study leaves in its folder: rows in results.csv, the machine in machine.txt, tables in the README."""

from __future__ import annotations

import csv
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- results: written by the command above -->", "<!-- end of results -->"


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A CSV file of all rows; numbers that are not whole keep five digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )


def read_rows(path: Path) -> list[dict[str, Any]]:
    """What `write_rows` wrote, numbers as numbers."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def measured_on(output: Path) -> str:
    """One line: the machine of results.csv, or those on which it was made one after another."""
    lines = (output / "machine.txt").read_text(encoding="utf-8").splitlines()
    machines = [line for line in lines if not line.startswith("settings ")]
    return "Measured on: " + "; then on ".join(machines)


def machine() -> str:
    """One line about what the numbers were measured on."""
    import torch
    import transformers

    information = Path("/proc/cpuinfo")  # Linux names the processor here only
    lines = information.read_text().splitlines() if information.exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    processor = facts.get("model name", platform.processor())
    if "cpu family" in facts:  # the name alone says too little of a virtual machine's processor
        processor += f" (family {facts['cpu family']}, model {facts['model']})"
    card = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{processor}, {torch.get_num_threads()} threads{card}; Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )


def write_results(folder: Path, text: str) -> None:
    """Put the results into the README of an experiment, between its two marks; or into results.md, if there is none."""
    readme = folder / "README.md"
    if not readme.exists():
        (folder / "results.md").write_text(text, encoding="utf-8")
        return
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{readme} lacks the marks {BEGIN!r} and {END!r}")
    readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")

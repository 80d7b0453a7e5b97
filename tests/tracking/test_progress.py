"""The progress bar: events of strategies above it, work beside the batches, which goes away when it is done."""

from __future__ import annotations

import io

import pytest
from lightning.pytorch.callbacks.progress.rich_progress import CustomProgress
from rich.console import Console

from bertlab.interfaces import ShowsWork
from bertlab.tracking.progress import Progress

FACTS = {
    "blocks": [f"layer.{i}" for i in range(6)],
    "two": ["pooler", "[head]"],
    "weights": {"ham": 0.577777, "spam": 4},
    "none": [],
}
LINE = "step 12 Staged trainable: blocks layer.0 … layer.5, two pooler [head], weights {ham: 0.578, spam: 4}, none \n"


def test_an_event_is_a_line_above_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progress()
    bar.record_event(12, 3, "Staged", "trainable", FACTS)  # before there is a bar
    assert capsys.readouterr().out.replace("\n", " ").split() == LINE.split()
    console = Console(file=io.StringIO(), width=200)
    bar.progress = CustomProgress(console=console)
    bar.record_event(12, 3, "Staged", "trainable", FACTS)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == LINE
    bar.disable()
    bar.record_event(13, 3, "Staged", "trainable", FACTS)
    assert console.file.getvalue() == LINE


def test_work_has_a_bar_until_it_is_done() -> None:
    bar = Progress()
    assert isinstance(bar, ShowsWork)
    bar.show_work("Filling", 1, 3)  # no bar yet: nothing to show
    bar.progress = CustomProgress(console=Console(file=io.StringIO()))
    for what in ("Filling", "Filling again"):
        for done in (1, 2):
            bar.show_work(what, done, 3)
            (task,) = bar.progress.tasks
            assert (what in task.description, task.completed, task.total) == (True, done, 3)
        bar.show_work(what, 3, 3)
        assert bar.progress.tasks == []


def test_a_bar_that_is_off_shows_nothing() -> None:
    bar = Progress()
    bar.progress = CustomProgress(console=Console(file=io.StringIO()))
    bar.disable()
    bar.show_work("Filling", 1, 3)
    assert bar.progress.tasks == []

"""The progress bar shows work beside the batches, and takes it away when it is done."""

from __future__ import annotations

import io

from lightning.pytorch.callbacks.progress.rich_progress import CustomProgress
from rich.console import Console

from bertlab.interfaces import ShowsWork
from bertlab.tracking.progress import Progress


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

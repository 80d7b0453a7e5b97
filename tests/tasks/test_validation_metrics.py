"""What a task says that its validations log is what they log."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningDataModule

from tests.tasks import tiny_pretraining
from tests.tasks.tiny import TinyData, tiny_task, tiny_trainer
from tests.tasks.tiny_mixture import TinyMixture, tiny_mixture
from tests.tasks.tiny_words import TinyWords, tiny_tagger

MADE: dict[str, Callable[[], tuple[Any, LightningDataModule]]] = {
    "two classes": lambda: (tiny_task(), TinyData(label_names=("ham", "spam"))),
    "three classes": lambda: (tiny_task(positive_label="news"), TinyData()),
    "no positive class": lambda: (tiny_task(), TinyData()),
    "several labels": lambda: (tiny_task(problem="multi_label"), TinyData(problem="multi_label")),
    "numbers": lambda: (tiny_task(problem="regression"), TinyData(problem="regression")),
    "entities": lambda: (tiny_tagger(), TinyWords()),
    "tags": lambda: (tiny_tagger(problem="tags"), TinyWords(scheme="none")),
    "several tasks": lambda: (tiny_mixture(), TinyMixture()),
    "several tasks, one not validated": lambda: (tiny_mixture(), TinyMixture(unvalidated=("words",))),
} | {
    objective: lambda objective=objective: (
        tiny_pretraining.tiny_task(objective),
        tiny_pretraining.TinyData(swap=objective == "mlm_sop"),
    )
    for objective in ("mlm_nsp", "mlm", "mlm_sop", "replaced_tokens")
}


@pytest.mark.parametrize("made", MADE)
def test_they_are_those_that_are_logged(made: str, tmp_path: Path) -> None:
    task, data = MADE[made]()
    found = tiny_trainer(tmp_path).validate(task, datamodule=data, verbose=False)
    named = task.validation_metrics()
    assert sorted(named) == sorted(found[0])
    assert task.monitor[0] in named

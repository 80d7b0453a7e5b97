"""The trainings that strategies are put into: data, and the task that learns from them, each of MiniLM's size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule

from bertlab.data.multi_task import MultiTaskData
from bertlab.data.pretraining import PretrainingData
from bertlab.data.text_classification import TextClassificationData
from bertlab.encoders.pretrained import PretrainedEncoder
from bertlab.samplers.phases import Phase
from bertlab.tasks.multi_task import MultiTask
from bertlab.tasks.pretraining import Pretraining
from bertlab.tasks.sequence_classification import SequenceClassification

#: The training of a strategy for which the study names no other.
CLASSIFICATION = "classification"

Settings = Mapping[str, Any]
#: The data, and what makes the task.
Training = tuple[LightningDataModule, Callable[[], LightningModule]]


def classification(sources: Mapping[str, str], study: Settings) -> Training:
    """A classifier of text messages."""
    data = TextClassificationData(
        study["source"], sources["messages"], max_length=study["max_length"], batch_size=study["texts"]
    )
    return data, lambda: SequenceClassification(PretrainedEncoder(study["source"]))


def two_tasks(sources: Mapping[str, str], study: Settings) -> Training:
    """Two classifiers over one encoder, of text messages and of product reviews, both in each step."""
    tasks = ("messages", "reviews")
    options = {"max_length": study["max_length"], "batch_size": study["texts"] // len(tasks)}
    data = MultiTaskData(
        {task: partial(TextClassificationData, source=sources[task], **options) for task in tasks},
        study["source"],
        tasks_per_step=len(tasks),
        steps_per_epoch=study["steps_per_epoch"],
    )
    return data, lambda: MultiTask(
        PretrainedEncoder(study["source"]), {task: partial(SequenceClassification) for task in tasks}
    )


def pretraining(sources: Mapping[str, str], study: Settings) -> Training:
    """Masked language modelling of news."""
    data = PretrainingData(
        sources["news"],
        sentence_task="none",
        phases=[Phase(study["max_length"])],
        batch_size=study["texts"],
        max_validation_examples=study["texts"],
    )
    return data, lambda: Pretraining(PretrainedEncoder(study["source"]), "mlm")


TRAININGS: Mapping[str, Callable[[Mapping[str, str], Settings], Training]] = {
    CLASSIFICATION: classification,
    "two_tasks": two_tasks,
    "pretraining": pretraining,
}

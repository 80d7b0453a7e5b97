"""Several tasks over one encoder as a folder for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from bertlab.export.hugging_face import export_hugging_face
from bertlab.export.whole_folder import whole_folder
from bertlab.tasks.multi_task import MultiTask
from bertlab.tasks.several import of_task


def export_tasks(task: MultiTask, tokenizer: Any, folder: str | Path) -> dict[str, PreTrainedModel]:
    """Write <folder>/<task>/ for each task, as `export_hugging_face` writes one; each has the encoder.

    All folders are there, or none.

    Args:
        task: with its heads and weights.
        tokenizer: of transformers; None: none is written.
        folder: to make.

    Returns:
        The model that was written, by the name of its task.

    Raises:
        FileExistsError: there is something at `folder`.
        ValueError: transformers has no model of the kind of one of the tasks, which is named.
    """
    written: dict[str, PreTrainedModel] = {}
    with whole_folder(Path(folder)) as part:
        for name, one in task.tasks.items():
            with of_task(name):
                written[name] = export_hugging_face(one, tokenizer, part / name)
    return written

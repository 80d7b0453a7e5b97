"""Several data modules in one: whose batches, in which order, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn

from bertlab.data.multi_task import MultiTaskData
from bertlab.data.text_classification import TextClassificationData
from bertlab.data.text_data import TextData
from bertlab.data.token_classification import TokenClassificationData
from bertlab.interfaces import MultiTaskBatch, TextBatch, WordBatch
from tests.doubles.stop_after import StopAfter, every_step
from tests.tasks.tiny import tiny_trainer

Maker = Callable[[str], TextData]


@pytest.fixture
def makers(tmp_path: Path, texts_csv: Any) -> dict[str, Maker]:
    """48 texts in 4 steps, 24 in 4, and 40 sentences in 5."""
    sentences = tmp_path / "sentences.jsonl"
    rows = [
        {"words": ["call", "me", f"{row}"], "tags": ["O", "B-x" if row % 2 else "B-y", "O"]}
        for row in range(50)
    ]
    sentences.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "spam": partial(TextClassificationData, source=str(texts_csv(60)), batch_size=12),
        "films": partial(TextClassificationData, source=str(texts_csv(30, "films.csv")), batch_size=6),
        "names": partial(TokenClassificationData, source=str(sentences), batch_size=8),
    }


class Model(LightningModule):
    """Keeps what it saw: optimizer step, and of each part the task and its rows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen: list[tuple[int, tuple[tuple[str | None, tuple[int, ...]], ...]]] = []
        self.validated: list[tuple[str | None, int]] = []

    def training_step(self, batch: MultiTaskBatch, batch_idx: int) -> torch.Tensor:
        parts = tuple((part.task, tuple(part.index.tolist())) for part in batch.parts)
        self.seen.append((self.global_step, parts))
        return self.layer(batch.parts[0].lengths.float().unsqueeze(1)).mean()

    def validation_step(self, batch: TextBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.validated.extend((batch.task, row) for row in batch.index.tolist())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        assert self.trainer.estimated_stepping_batches > 0  # as schedules ask for it
        return torch.optim.SGD(self.parameters(), lr=1e-6)


def data(tokenizer: str, makers: dict[str, Maker], **options: Any) -> MultiTaskData:
    return MultiTaskData(makers, tokenizer, **{"seed": 3, **options})


def run(folder: Path, made: MultiTaskData, resume: str | None = None, **settings: Any) -> Model:
    trainer = tiny_trainer(
        folder, **{"max_epochs": 3, "enable_checkpointing": "callbacks" in settings, **settings}
    )
    model = Model()
    try:
        trainer.fit(model, made, ckpt_path=resume)
    except SystemExit:  # Lightning's answer to a KeyboardInterrupt
        assert "callbacks" in settings
    return model


@pytest.mark.parametrize(("tasks_per_step", "accumulate", "workers"), [(1, 1, 0), (2, 2, 0), (3, 2, 2)])
def test_a_resumed_run_sees_what_one_never_stopped_sees(
    tmp_path: Path,
    tokenizer_folder: str,
    makers: dict[str, Maker],
    tasks_per_step: int,
    accumulate: int,
    workers: int,
) -> None:
    def again(folder: Path, resume: str | None = None, **more: Any) -> Model:
        made = data(
            tokenizer_folder, makers, final_alpha=0.2, tasks_per_step=tasks_per_step, num_workers=workers
        )
        return run(folder, made, resume, accumulate_grad_batches=accumulate, **more)

    whole = again(tmp_path)
    steps = -(-13 // tasks_per_step)
    assert [step for step, _ in whole.seen] == [s for s in range(3 * steps) for _ in range(accumulate)]
    assert all(len(parts) == tasks_per_step for _, parts in whole.seen)
    stop = 3 * steps - 2
    saved = again(tmp_path, callbacks=[every_step(tmp_path), StopAfter(stop)])
    for begin in {1, steps - 1, steps, steps + 1, stop - 1} if not workers else {steps + 1}:
        resumed = again(tmp_path, str(tmp_path / f"step={begin}.ckpt"))
        seen = [entry for entry in saved.seen if entry[0] < begin]
        assert seen + resumed.seen == whole.seen, f"after step {begin}"


def test_batches_know_their_task_and_validation_has_every_row_once(
    tmp_path: Path, tokenizer_folder: str, makers: dict[str, Maker]
) -> None:
    made = data(tokenizer_folder, makers, alpha=0.0, tasks_per_step=3)
    seen = run(tmp_path, made, max_epochs=1)
    rows = {"spam": 6, "films": 3, "names": 5}
    assert sorted(seen.validated, key=str) == sorted(
        ((name, row) for name, count in rows.items() for row in range(count)), key=str
    )
    made.trainer = None
    batch = next(iter(made.train_dataloader()))
    assert [part.task for part in batch.parts] == ["spam", "films", "names"]
    assert isinstance(batch.parts[2], WordBatch)
    assert [len(part.step_labels) for part in batch.parts[:2]] == [12, 6]
    moved = batch.to("meta")
    assert [part.input_ids.device.type for part in moved.parts] == ["meta"] * 3
    assert [part.task for part in moved.parts] == ["spam", "films", "names"]
    assert {name: loader.dataset.task for name, loader in zip(rows, made.test_dataloader(), strict=True)} == {
        name: name for name in rows
    }


def test_seeds_and_labels_of_the_tasks(tokenizer_folder: str, makers: dict[str, Maker]) -> None:
    makers["films"] = partial(makers["films"], seed=9)
    made = data(tokenizer_folder, makers)
    assert [task.seed for task in made.tasks.values()] == [3, 9, 3]
    made.label_names = {"spam": ["spam", "ham"], "films": None}
    made.setup("test")
    assert made.label_names == {
        "spam": ("spam", "ham"),
        "films": ("ham", "spam"),
        "names": ("O", "B-x", "I-x", "B-y", "I-y"),
    }


def test_another_end_of_training_takes_up_each_task_where_it_was(
    tmp_path: Path, tokenizer_folder: str, makers: dict[str, Maker]
) -> None:
    """With annealing a longer training has other draws; the rows that each task has had are those of the checkpoint."""
    first = run(
        tmp_path,
        data(tokenizer_folder, makers, final_alpha=0.0),
        callbacks=[every_step(tmp_path)],
        max_epochs=3,
    )
    more = run(
        tmp_path,
        data(tokenizer_folder, makers, final_alpha=0.0),
        str(tmp_path / "step=30.ckpt"),
        max_epochs=9,
    )
    for name, own in (("spam", 4), ("films", 4), ("names", 5)):
        had, then = (
            [rows for _, ((task, rows),) in seen if task == name]
            for seen in ([entry for entry in first.seen if entry[0] < 30], more.seen)
        )
        begun = len(had) % own
        epoch = had[len(had) - begun :] + then[: own - begun]
        count = {"spam": 48, "films": 24, "names": 40}[name]
        assert sorted(row for rows in epoch for row in rows) == list(range(count))


def test_two_ranks_draw_the_same_tasks(tokenizer_folder: str, makers: dict[str, Maker]) -> None:
    class OnRank:
        overfit_batches, callbacks, world_size, accumulate_grad_batches = 0, (), 2, 1
        limit_train_batches, fast_dev_run = 1.0, False
        max_epochs, max_steps = 2, -1

        def __init__(self, rank: int) -> None:
            self.global_rank = rank

    found = []
    for rank in range(2):
        made = data(tokenizer_folder, makers, tasks_per_step=2)
        made.trainer = OnRank(rank)  # pyright: ignore[reportAttributeAccessIssue]
        loader = made.train_dataloader()
        loader.position = None  # pyright: ignore[reportAttributeAccessIssue]
        found.append(list(loader))
    assert len(found[0]) == len(found[1]) == 7
    for one, other in zip(*found, strict=True):
        assert [part.task for part in one.parts] == [part.task for part in other.parts]
        for mine, theirs in zip(one.parts, other.parts, strict=True):
            assert mine.micro_batches == 2
            assert mine.step_labels.tolist() == theirs.step_labels.tolist()
            assert not {*mine.index.tolist()} & {*theirs.index.tolist()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, r"data.init_args.alpha takes a number in \[0, 1\], got 1.5"),
        ({"alpha": float("nan")}, r"data.init_args.alpha takes a number in \[0, 1\], got nan"),
        ({"final_alpha": -0.1}, r"data.init_args.final_alpha takes a number in \[0, 1\], got -0.1"),
        ({"tasks_per_step": 0}, "data.init_args.tasks_per_step takes 1 to 3, the number of tasks, got 0"),
        ({"tasks_per_step": 4}, "data.init_args.tasks_per_step takes 1 to 3, the number of tasks, got 4"),
        ({"steps_per_epoch": 0}, "data.init_args.steps_per_epoch takes 1 or more, got 0"),
    ],
)
def test_options_out_of_range_are_refused(
    tokenizer_folder: str, makers: dict[str, Maker], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        data(tokenizer_folder, makers, **options)


def test_one_task_or_none_is_refused(tokenizer_folder: str, makers: dict[str, Maker]) -> None:
    with pytest.raises(ValueError, match=r"data.init_args.tasks takes two tasks or more, got \['spam'\]"):
        data(tokenizer_folder, {"spam": makers["spam"]})
    with pytest.raises(ValueError, match=r"data.init_args.tasks takes two tasks or more, got \[\]"):
        data(tokenizer_folder, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\n", r"data\.init_args\.tasks\.empty: .*(no rows|empty)"),
        ("text,label\na,ham\nb,ham\n", r"data\.init_args\.tasks\.empty: .*two classes are needed"),
    ],
)
def test_what_is_wrong_with_one_task_names_its_key(
    tmp_path: Path, tokenizer_folder: str, makers: dict[str, Maker], content: str, message: str
) -> None:
    (tmp_path / "empty.csv").write_text(content)
    made = data(
        tokenizer_folder,
        {**makers, "empty": partial(TextClassificationData, source=str(tmp_path / "empty.csv"))},
    )
    with pytest.raises(ValueError, match=message):
        made.setup("fit")


def test_resuming_with_other_tasks_or_other_steps_is_refused(
    tmp_path: Path, tokenizer_folder: str, makers: dict[str, Maker]
) -> None:
    run(tmp_path, data(tokenizer_folder, makers), callbacks=[every_step(tmp_path), StopAfter(6)])
    saved = str(tmp_path / "step=5.ckpt")
    other = {name: make for name, make in makers.items() if name != "films"}
    with pytest.raises(
        ValueError, match=r"of the tasks \['spam', 'films', 'names'\], data.init_args.tasks na"
    ):
        run(tmp_path, data(tokenizer_folder, other), saved)
    smaller = {**makers, "films": partial(makers["films"], batch_size=3)}
    with pytest.raises(ValueError, match=r"data.init_args.tasks makes it .*'films': 8"):
        run(tmp_path, data(tokenizer_folder, smaller, steps_per_epoch=13), saved)


def test_annealing_without_an_end_is_refused(
    tmp_path: Path, tokenizer_folder: str, makers: dict[str, Maker]
) -> None:
    with pytest.raises(ValueError, match=r"data.init_args.final_alpha is that of the last epoch"):
        run(tmp_path, data(tokenizer_folder, makers, final_alpha=0.2), max_epochs=-1, max_time="00:00:00:30")

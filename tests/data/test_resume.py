"""A run that is stopped anywhere and resumed sees the same rows in the same order as one never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from bertlab.data.text_classification import TextClassificationData
from bertlab.interfaces import TextBatch
from tests.doubles.stop_after import StopAfter, every_step

EPOCHS_OR_STEPS: list[dict[str, Any]] = [{"max_epochs": 3}, {"max_steps": 12}]


class Model(LightningModule):
    """The smallest model that takes optimizer steps; it keeps what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen: list[tuple[int, ...]] = []
        self.validated: list[int] = []

    def training_step(self, batch: TextBatch, batch_idx: int) -> torch.Tensor:
        self.seen.append((self.global_step, *batch.index.tolist()))
        return self.layer(batch.lengths.float().unsqueeze(1)).mean()

    def validation_step(self, batch: TextBatch, batch_idx: int) -> None:
        self.validated.extend(batch.index.tolist())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-6)


class EarlySteps(Model):
    """Asks for the number of steps before the checkpoint is restored, as schedules do (Lightning #20550)."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        assert self.trainer.estimated_stepping_batches > 0
        return super().configure_optimizers()


def run(
    folder: Path,
    tokenizer: str,
    source: Path,
    accumulate: int,
    workers: int,
    resume: str | None = None,
    callbacks: list[Callback] | None = None,
    model: Model | None = None,
    limits: dict[str, Any] | None = None,
    **data_options: Any,
) -> Model:
    data = TextClassificationData(
        tokenizer,
        str(source),
        batch_size=12,
        num_workers=workers,
        seed=3,
        evaluation_max_tokens=64,
        **data_options,
    )
    trainer = Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        accumulate_grad_batches=accumulate,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks or []),
        **(limits or {"max_epochs": 3}),
    )
    model = model or Model()
    try:
        trainer.fit(model, data, ckpt_path=resume)
    except SystemExit:  # Lightning's answer to a KeyboardInterrupt
        assert any(isinstance(c, StopAfter) for c in callbacks or [])
    return model


@pytest.mark.parametrize("limits", EPOCHS_OR_STEPS, ids=["epochs", "steps"])
@pytest.mark.parametrize(("accumulate", "workers"), [(1, 0), (4, 0), (4, 2)])
def test_resumed_order_is_that_of_the_uninterrupted_run(
    tmp_path: Path,
    tokenizer_folder: str,
    texts_csv: Any,
    accumulate: int,
    workers: int,
    limits: dict[str, int],
) -> None:
    source = texts_csv(60)  # 48 train rows: 4 steps an epoch
    whole = run(tmp_path, tokenizer_folder, source, accumulate, workers, limits=limits)
    assert len(whole.seen) == 12 * accumulate
    stops = range(1, 12) if workers == 0 else (2, 4)
    for stop in stops:  # 4 and 8 are ends of epochs, saved before validation
        folder = tmp_path / str(stop)
        callbacks = [every_step(folder), StopAfter(stop + 1)]
        first = run(folder, tokenizer_folder, source, accumulate, workers, callbacks=callbacks, limits=limits)
        seen = [entry for entry in first.seen if entry[0] < stop]
        checkpoint = str(folder / f"step={stop}.ckpt")
        second = run(folder, tokenizer_folder, source, accumulate, workers, resume=checkpoint, limits=limits)
        assert seen + second.seen == whole.seen


@pytest.mark.parametrize(
    ("limits", "at_train_end", "validation"),
    [
        *(
            (limits, *saved)
            for limits in EPOCHS_OR_STEPS
            for saved in [(True, 0.1), (False, 0.1), (True, 0.0)]
        ),
        ({"max_steps": 12, "limit_val_batches": 0}, True, 0.1),
    ],
)
def test_resumes_from_the_end_of_an_epoch(
    tmp_path: Path,
    tokenizer_folder: str,
    texts_csv: Any,
    at_train_end: bool,
    validation: float,
    limits: dict[str, int],
) -> None:
    source = texts_csv(60 if validation else 48)  # 48 train rows, 4 steps an epoch either way
    options: dict[str, Any] = {
        "limits": limits,
        "validation_fraction": validation,
        "test_fraction": validation,
    }
    whole = run(tmp_path, tokenizer_folder, source, 2, 0, **options)
    saver = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=at_train_end)
    run(tmp_path, tokenizer_folder, source, 2, 0, callbacks=[saver], **options)
    for epoch in (0, 1):
        checkpoint = str(tmp_path / f"epoch={epoch}.ckpt")
        second = run(tmp_path, tokenizer_folder, source, 2, 0, resume=checkpoint, **options)
        assert second.seen == whole.seen[(epoch + 1) * 8 :]


def test_resumes_in_the_middle_of_an_epoch_after_validation_within_it(
    tmp_path: Path, tokenizer_folder: str, texts_csv: Any
) -> None:
    source, limits = texts_csv(60), {"max_epochs": 2, "val_check_interval": 0.5}
    whole = run(tmp_path, tokenizer_folder, source, 1, 0, limits=limits)
    saver = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, save_on_train_epoch_end=False)
    run(tmp_path, tokenizer_folder, source, 1, 0, callbacks=[saver], limits=limits)
    for step in (2, 4, 6):
        second = run(
            tmp_path,
            tokenizer_folder,
            source,
            1,
            0,
            resume=str(tmp_path / f"step={step}.ckpt"),
            limits=limits,
        )
        assert second.seen == whole.seen[step:]


@pytest.mark.parametrize("workers", [0, 2])
def test_steps_counted_before_the_checkpoint_is_restored(
    tmp_path: Path, tokenizer_folder: str, texts_csv: Any, workers: int
) -> None:
    source = texts_csv(60)
    whole = run(tmp_path, tokenizer_folder, source, 1, workers, model=EarlySteps())
    run(
        tmp_path,
        tokenizer_folder,
        source,
        1,
        0,
        callbacks=[every_step(tmp_path), StopAfter(7)],
        model=EarlySteps(),
    )
    second = run(
        tmp_path,
        tokenizer_folder,
        source,
        1,
        workers,
        resume=str(tmp_path / "step=6.ckpt"),
        model=EarlySteps(),
    )
    assert second.seen == whole.seen[6:]


def test_limited_epochs_resume_too(tmp_path: Path, tokenizer_folder: str, texts_csv: Any) -> None:
    source, limits = texts_csv(60), {"max_epochs": 3, "limit_train_batches": 3}
    whole = run(tmp_path, tokenizer_folder, source, 1, 0, limits=limits)
    assert len(whole.seen) == 9
    run(
        tmp_path,
        tokenizer_folder,
        source,
        1,
        0,
        callbacks=[every_step(tmp_path), StopAfter(9)],
        limits=limits,
    )
    for step in (2, 3, 5):
        checkpoint = str(tmp_path / f"step={step}.ckpt")
        second = run(tmp_path, tokenizer_folder, source, 1, 0, resume=checkpoint, limits=limits)
        assert second.seen == whole.seen[step:]


def test_another_step_size_in_the_middle_of_an_epoch_is_refused(
    tmp_path: Path, tokenizer_folder: str, texts_csv: Any
) -> None:
    source = texts_csv(60)
    run(tmp_path, tokenizer_folder, source, 1, 0, callbacks=[every_step(tmp_path), StopAfter(7)])
    data = TextClassificationData(tokenizer_folder, str(source), batch_size=6)
    trainer = Trainer(accelerator="cpu", max_epochs=3, logger=False, enable_checkpointing=False)
    with pytest.raises(
        ValueError, match=r"after step 2 of an epoch of 4 optimizer steps, but an epoch has 8 now"
    ):
        trainer.fit(Model(), data, ckpt_path=str(tmp_path / "step=6.ckpt"))


class SaveWithinStep(Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.fit_loop.batch_idx == 5:
            trainer.save_checkpoint(self.path)


def test_a_checkpoint_from_the_middle_of_an_accumulation_is_refused(
    tmp_path: Path, tokenizer_folder: str, texts_csv: Any
) -> None:
    source, path = texts_csv(60), tmp_path / "within.ckpt"
    run(tmp_path, tokenizer_folder, source, 4, 0, callbacks=[SaveWithinStep(path)], limits={"max_epochs": 1})
    with pytest.raises(
        ValueError, match=r"after 6 micro-batches of its epoch, which are not the 1 optimizer steps"
    ):
        run(tmp_path, tokenizer_folder, source, 4, 0, resume=str(path))


def test_every_epoch_has_every_row_once_and_validation_too(
    tmp_path: Path, tokenizer_folder: str, texts_csv: Any
) -> None:
    whole = run(
        tmp_path, tokenizer_folder, texts_csv(60), 4, 0, limits={"max_epochs": 2, "num_sanity_val_steps": 0}
    )
    for epoch in range(2):
        rows = sorted(row for _, *rows in whole.seen[epoch * 16 : (epoch + 1) * 16] for row in rows)
        assert rows == list(range(48))
    assert whole.seen[:16] != whole.seen[16:]
    assert sorted(whole.validated) == sorted([*range(6), *range(6)])

"""A pretraining run that is stopped anywhere and resumed sees the same samples as one never stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn

from bertlab.corpus.pairs import make_examples
from bertlab.corpus.random_numbers import key_of
from bertlab.corpus.token_store import TokenStore
from bertlab.data.pretraining import PretrainingData
from bertlab.interfaces import PretrainingBatch
from bertlab.samplers.phases import Phase
from tests.corpus.small_corpus import write_store
from tests.doubles.stop_after import StopAfter, every_step
from tests.ranks import on_two_ranks

SCHEDULE: dict[str, Any] = {
    "phases": [Phase(32, 0.5), Phase(32, 0.2, 6), Phase(64, 0.3)],
    "batch_warmup_fraction": 0.3,
    "batch_warmup_start": 4,
}


class Model(LightningModule):
    """Takes steps; keeps what it saw, masks and all."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen: list[tuple[Any, ...]] = []

    def training_step(self, batch: PretrainingBatch, batch_idx: int) -> torch.Tensor:
        rows = batch.input_ids.split(batch.lengths.tolist())
        for number, ids in zip(batch.index.tolist(), rows, strict=True):
            self.seen.append((self.global_step, number, batch.step_masked, *ids.tolist()))
        return self.layer(batch.lengths.float().unsqueeze(1)).mean()

    def validation_step(self, batch: PretrainingBatch, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        assert (
            self.trainer.estimated_stepping_batches > 0
        )  # before the checkpoint is restored (Lightning #20550)
        return torch.optim.SGD(self.parameters(), lr=1e-6)


def fit(
    folder: Path,
    store: str,
    accumulate: int = 1,
    workers: int = 0,
    resume: str | None = None,
    stop: int | None = None,
    limits: dict[str, Any] | None = None,
    devices: int = 1,
    **options: Any,
) -> list[tuple[Any, ...]]:
    options = {"batch_size": 10, "phases": [Phase(32)], "validation_fraction": 0.1, "seed": 3} | options
    data = PretrainingData(store, num_workers=workers, **options)
    saver = every_step(folder)
    trainer = Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        accumulate_grad_batches=accumulate,
        callbacks=[saver, StopAfter(stop)] if stop else [saver] if devices > 1 else [],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=stop is not None or devices > 1,
        num_sanity_val_steps=0,
        **(limits or {"max_steps": 12}),
    )
    model = Model()
    try:
        trainer.fit(model, data, ckpt_path=resume)
    except SystemExit:  # Lightning's answer to a KeyboardInterrupt
        assert stop
    return model.seen


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_store(tmp_path_factory.mktemp("store") / "tiny", documents=12))


@pytest.mark.parametrize(
    ("accumulate", "workers", "options", "limits"),
    [
        (1, 0, {}, {"max_steps": 12}),
        (2, 0, {}, {"max_epochs": 2, "limit_train_batches": 12}),
        (2, 2, SCHEDULE, {"max_steps": 12}),
        (1, 0, SCHEDULE, {"max_epochs": 4, "limit_train_batches": 3}),
    ],
    ids=["plain", "accumulated", "workers and schedule", "schedule over epochs"],
)
def test_resumed_is_uninterrupted(
    tmp_path: Path, store: str, accumulate: int, workers: int, options: Any, limits: Any
) -> None:
    whole = fit(tmp_path, store, accumulate, workers, limits=limits, **options)
    assert max(step for step, *_ in whole) == 11
    assert len({number for _, number, *_ in whole}) == len(whole)
    for stop in (3, 6, 10) if workers == 0 else (5,):  # 3 and 6 are ends of epochs of some
        folder = tmp_path / str(stop)
        first = fit(folder, store, accumulate, 0, stop=stop + 1, limits=limits, **options)
        checkpoint = str(folder / f"step={stop}.ckpt")
        second = fit(folder, store, accumulate, workers, resume=checkpoint, limits=limits, **options)
        assert [seen for seen in first if seen[0] < stop] + second == whole


def test_the_state_is_one_number_and_other_batch_sizes_go_on_from_it(tmp_path: Path, store: str) -> None:
    fit(tmp_path, store, stop=6, limits={"max_steps": 40})
    checkpoint = tmp_path / "step=5.ckpt"
    state = torch.load(checkpoint, weights_only=False)["PretrainingData"]
    opened = TokenStore.open(store)
    assert state == {
        "samples": 50,
        "tokenizer": opened.tokenizer_hash,
        "store": opened.content_hash,
        "held_out": {"validation_fraction": 0.1, "split_seed": 0},
        "stream": {
            "seed": 3,
            "sentence_task": "next_sentence",
            "short_fraction": 0.1,
            "phases: the lengths": [32],
        },
    }
    second = fit(tmp_path, store, resume=str(checkpoint), batch_size=7, limits={"max_steps": 8})
    assert sorted(number for _, number, *_ in second) == list(range(50, 71))
    phases = [Phase(32, 0.25), Phase(64, 0.75)]
    with pytest.raises(
        ValueError, match=r"consumed 50 samples .* in 5 optimizer steps; .* would be 21 \+ 14"
    ):
        fit(tmp_path, store, resume=str(checkpoint), batch_size=7, phases=phases, limits={"max_steps": 12})


def test_what_was_changed_in_the_first_length_is_known_in_the_second(tmp_path: Path, store: str) -> None:
    """Another batch size, then killed in the second length: it goes on as if it had not been killed there."""
    phases, limits = [Phase(32, 0.5), Phase(64, 0.5)], {"max_steps": 12}
    fit(tmp_path, store, stop=4, phases=phases, limits=limits)
    changed: dict[str, Any] = {"batch_size": 7, "phases": phases, "limits": limits}
    whole = fit(tmp_path / "whole", store, resume=str(tmp_path / "step=3.ckpt"), **changed)
    fit(tmp_path / "killed", store, resume=str(tmp_path / "step=3.ckpt"), stop=10, **changed)
    checkpoint = str(tmp_path / "killed" / "step=9.ckpt")
    assert fit(tmp_path, store, resume=checkpoint, **changed) == [seen for seen in whole if seen[0] >= 9]
    with pytest.raises(
        ValueError, match=r"consumed 51 \+ 21 samples .* in 9 optimizer steps; .* would be 48 \+ 24"
    ):
        fit(tmp_path, store, resume=checkpoint, **changed | {"batch_size": 8})


@pytest.mark.parametrize(
    ("stop", "then"), [(9, 24), (7, 8)], ids=["the first length would go on", "it would have ended long ago"]
)
def test_another_end_that_moves_the_change_of_length_over_the_checkpoint_is_refused(
    tmp_path: Path, store: str, stop: int, then: int
) -> None:
    phases = [Phase(32, 0.5), Phase(64, 0.5)]
    limits = {"max_steps": 12} if stop > 7 else {"max_steps": 24}
    fit(tmp_path, store, stop=stop, phases=phases, limits=limits)
    with pytest.raises(ValueError, match=r"consumed .* samples of the lengths .* set them as they were"):
        fit(
            tmp_path,
            store,
            resume=str(tmp_path / f"step={stop - 1}.ckpt"),
            phases=phases,
            limits={"max_steps": then},
        )


def test_another_end_moves_a_change_of_length_that_is_still_to_come(tmp_path: Path, store: str) -> None:
    phases = [Phase(32, 0.5), Phase(64, 0.5)]
    fit(tmp_path, store, stop=5, phases=phases)
    seen = fit(tmp_path, store, resume=str(tmp_path / "step=4.ckpt"), phases=phases, limits={"max_steps": 20})
    assert seen == [
        row for row in fit(tmp_path, store, phases=phases, limits={"max_steps": 20}) if row[0] >= 4
    ]


def test_a_store_of_other_text_does_not_go_on(tmp_path: Path, store: str) -> None:
    fit(tmp_path, store, stop=4)
    other = str(write_store(tmp_path / "other", documents=13))
    assert TokenStore.open(other).tokenizer_hash == TokenStore.open(store).tokenizer_hash
    with pytest.raises(ValueError, match=r"other holds other text than the store that the checkpoint"):
        fit(tmp_path, other, resume=str(tmp_path / "step=3.ckpt"))


def test_a_late_resume_goes_through_no_earlier_pass_and_workers_count_nothing(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the cache remembers, or the checkpoint; one that was made before they did goes through all, once."""
    log = tmp_path / "gone through"

    def watched(texts: Any, rules: Any, key: Any, position: int, wanted: int, write: bool, out: Any) -> Any:
        with log.open("a") as file:  # workers too write to it
            file.write(f"{os.getpid()} {int(key)} {int(write)}\n")
        return make_examples(texts, rules, key, position, wanted, write, out)

    options: dict[str, Any] = {"limits": {"max_steps": 36}}
    whole = fit(tmp_path, store, **options)
    fit(tmp_path, store, stop=33, **options)
    checkpoint, old = tmp_path / "step=32.ckpt", tmp_path / "old.ckpt"
    examples = PretrainingData(store, seed=3, phases=[Phase(32)], validation_fraction=0.1).examples
    now, within = examples.training.stream(0).locate(320)
    assert now >= 3
    assert within + 40 < examples.training.stream(0).examples_per_epoch(now), "the rest is of one pass"
    counts = [examples.training.stream(0).examples_per_epoch(epoch) for epoch in range(now)]
    state = torch.load(checkpoint, weights_only=True)
    assert list(state["PretrainingData"].pop("passes").values()) == [counts]
    torch.save(state, old)
    monkeypatch.setattr("bertlab.corpus.example_stream.make_examples", watched)
    for file, forgets, gone_through in (
        (checkpoint, False, {now}),
        (checkpoint, True, {now}),
        (old, True, set(range(now + 1))),
    ):
        if forgets:
            monkeypatch.setenv("BERTLAB_CACHE", str(tmp_path / file.stem))
        log.write_text("")
        resumed = fit(tmp_path, store, workers=2, resume=str(file), **options)
        assert resumed == [seen for seen in whole if seen[0] >= 32]
        done = [tuple(map(int, line.split())) for line in log.read_text().splitlines()]
        passes = {int(key_of(3, 0, epoch)): epoch for epoch in range(now + 1)}
        assert {passes[key] for _, key, _ in done if key in passes} == gone_through
        workers = [write for process, _, write in done if process != os.getpid()]
        assert workers
        assert all(workers), "what they start with was counted before they began"


def test_passes_of_other_examples_are_not_taken_from_a_checkpoint(
    store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def training(seed: int) -> Any:
        return PretrainingData(store, seed=seed, phases=[Phase(32)]).examples.training

    places = {
        seed: [training(seed).stream(0).locate(number) for number in range(0, 400, 50)] for seed in (3, 4)
    }
    assert places[3] != places[4]
    passes = training(3).passes_before([320])
    monkeypatch.setenv("BERTLAB_CACHE", str(tmp_path / "other"))
    for seed in (3, 4):
        resumed = training(seed)
        resumed.remember(passes)
        assert [resumed.stream(0).locate(number) for number in range(0, 400, 50)] == places[seed]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"split_seed": 1}, r"split_seed is 1, and was 0 .* would be held out now"),
        ({"validation_fraction": 0.3}, r"validation_fraction is 0\.3, and was 0\.1 .* would be held out now"),
        ({"seed": 5}, r"seed is 5, and was 3 .* stream of examples"),
        ({"short_fraction": 0.9}, r"short_fraction is 0\.9, and was 0\.1"),
        ({"sentence_task": "sentence_order"}, r"sentence_task is 'sentence_order', and was 'next_sentence'"),
        ({"phases": [Phase(48)]}, r"phases: the lengths is \[48\], and was \[32\]"),
    ],
)
def test_other_held_out_texts_or_another_stream_are_refused(
    tmp_path: Path, store: str, changed: dict[str, Any], named: str
) -> None:
    fit(tmp_path, store, stop=4)
    with pytest.raises(ValueError, match=named):
        fit(tmp_path, store, resume=str(tmp_path / "step=3.ckpt"), **changed)


def test_a_length_that_was_not_begun_may_change(tmp_path: Path, store: str) -> None:
    options = {"phases": [Phase(32, 0.5), Phase(64, 0.5)]}
    first = fit(tmp_path, store, stop=4, **options)
    second = fit(
        tmp_path, store, resume=str(tmp_path / "step=3.ckpt"), phases=[Phase(32, 0.5), Phase(48, 0.5)]
    )
    whole = fit(tmp_path / "whole", store, phases=[Phase(32, 0.5), Phase(48, 0.5)])
    assert [seen for seen in first if seen[0] < 3] + second == whole


def test_a_phase_without_a_step_is_told_of(store: str, tmp_path: Path) -> None:
    with pytest.warns(
        UserWarning, match=r"phases\[1\]: a fraction of 0\.03 is none of the 12 optimizer steps"
    ):
        fit(tmp_path, store, phases=[Phase(32, 0.97), Phase(64, 0.03)])


def test_a_negative_number_of_workers_is_refused(store: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.init_args\.num_workers takes 0 or more processes, got -1"):
        fit(tmp_path, store, workers=-1)


def test_a_checkpoint_from_the_middle_of_an_accumulation_is_refused(tmp_path: Path, store: str) -> None:
    fit(tmp_path, store, stop=3)
    with pytest.raises(ValueError, match=r"after 1 micro-batches .* accumulate_grad_batches 2"):
        fit(tmp_path, store, accumulate=2, resume=str(tmp_path / "step=1.ckpt"))


def test_two_ranks_then_one(tmp_path: Path, store: str) -> None:
    folder = tmp_path / "two"
    ranks = on_two_ranks(fit, tmp_path, folder, store, 1, 0, None, None, {"max_steps": 12}, 2)
    one = fit(tmp_path, store)
    assert sorted(ranks[0] + ranks[1]) == sorted(one)
    assert not set(ranks[0]) & set(ranks[1])
    for step, accumulate in ((5, 1), (6, 2)):  # as many micro-batches, or twice as many of the same size
        resumed = fit(tmp_path, store, accumulate, resume=str(folder / f"step={step}.ckpt"))
        assert sorted(resumed) == sorted(seen for seen in one if seen[0] >= step)

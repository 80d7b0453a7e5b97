from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from bertlab.callbacks.sequence_length_warmup import SequenceLengthWarmup
from bertlab.callbacks.strategy import AtStep, Run, Strategy
from bertlab.corpus.pairs import Examples
from bertlab.corpus.shortened_examples import shorten
from bertlab.data.rows import TextRows
from bertlab.data.tokenised import tokenise
from bertlab.interfaces import Course, WordBatch
from tests.callbacks.curriculum_data import WORDS, pairs, pretraining, tagged, texts
from tests.callbacks.seen_batches import watch
from tests.callbacks.tiny import TinyData, TinyTask, fit

pytestmark = pytest.mark.usefixtures("own_cache")


def test_texts_grow_as_the_tokenizer_would_have_cut_them(sources: Path, tmp_path: Path) -> None:
    data = texts(sources)
    task = watch([SequenceLengthWarmup(6, fraction=0.5, multiple=4)], data, tmp_path, max_epochs=2)
    longest, tokenizer = data.longest_sequence, data.tokenizer
    assert longest == 22
    # 24 steps, 12 of growth: 6 + 16 · t / 12, down to a multiple of 4, never below 6.
    limits = [6, 6, 8, 8, 8, 12, 12, 12, 16, 16, 16, 20] + [22] * 12
    written = data.splits("train")["train"].texts
    for micro, limit in zip(task.seen, limits, strict=True):
        for row, ids in micro.rows.items():
            assert ids == tokenizer(written[row], truncation=True, max_length=limit)["input_ids"]
        assert micro.longest == limit if limit < 20 else micro.longest <= limit
    rows = [row for micro in task.seen[:12] for row in micro.rows]
    assert sorted(rows) == list(range(192))  # whatever is cut, a row is a row
    assert max(micro.longest for micro in task.validated) > 16


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("limit", [5, 6, 9, 16, 23, 40])
def test_pairs_are_cut_as_the_tokenizer_cuts(side: str, limit: int, sources: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(sources / "tokenizer"), truncation_side=side)
    draw = np.random.default_rng(0)
    sides = [[" ".join(draw.choice(WORDS, size)) for size in draw.integers(1, 25, 40)] for _ in range(2)]
    rows = TextRows(sides[0], sides[1], None, None, "test")
    batch = tokenise(tokenizer, rows, 128).batch(np.arange(40), limit=limit)
    expected = tokenizer(sides[0], sides[1], truncation=True, max_length=limit)
    at = 0
    for row, length in zip(batch.index.tolist(), batch.lengths.tolist(), strict=True):
        assert batch.input_ids[at : at + length].tolist() == expected["input_ids"][row]
        assert batch.token_type_ids[at : at + length].tolist() == expected["token_type_ids"][row]
        at += length
    assert at == len(batch.input_ids)


def test_words_that_are_cut_off_have_no_tag(sources: Path, tmp_path: Path) -> None:
    data = tagged(sources, label_pieces="all")
    task = watch(
        [SequenceLengthWarmup(10, fraction=1.0, multiple=1)], data, tmp_path, max_epochs=1,
        accumulate_grad_batches=2,
    )  # fmt: skip
    whole = data.dataset("train")
    cut = 0
    for number in range(0, 12, 2):
        halves: list[WordBatch] = task.batches[number : number + 2]
        limit = 10 + (data.longest_sequence - 10) * (number // 2) // 6
        found = []
        for batch in halves:
            begins = np.cumsum(batch.lengths.numpy()) - batch.lengths.numpy()
            assert (batch.input_ids[begins + batch.lengths.numpy() - 1] == data.tokenizer.sep_token_id).all()
            for begin, length, row in zip(begins, batch.lengths, batch.index, strict=True):
                own = whole.batch([int(row)], [int(row)])
                kept = own.places.numpy() < limit - 1
                cut += int((~kept).sum())
                places = batch.places.numpy()
                mine = (places >= begin) & (places < begin + int(length))
                assert (places[mine] - begin).tolist() == own.places.numpy()[kept].tolist()
                assert batch.labels[mine].tolist() == own.labels.numpy()[kept].tolist()
            found += batch.labels.tolist()
        assert (
            sorted(found) == sorted(halves[0].step_labels.tolist()) == sorted(halves[1].step_labels.tolist())
        )
    assert cut > 100


@pytest.mark.parametrize("task_name", ["none", "next_sentence"])
def test_pretraining_is_masked_after_the_cut(task_name: Any, sources: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"sentence_task": task_name, "short_fraction": 0.0}
    data = pretraining(sources, **options)
    task = watch([SequenceLengthWarmup(16, fraction=0.5)], data, tmp_path, max_steps=12)
    plain = watch([], pretraining(sources, **options), tmp_path, max_steps=12)
    # 16 + 48 · t / 6, down to a multiple of 8.
    assert [micro.longest for micro in task.seen[:6]] == [16, 24, 32, 40, 48, 56]
    assert task.seen[6:] == plain.seen[6:]
    sep = data.tokenizer.sep_token_id
    for batch, other in zip(task.batches, plain.batches, strict=True):
        assert batch.step_masked == sum(max(1, round(0.15 * n)) for n in batch.lengths.tolist())
        shorter, longer = unmasked(batch), unmasked(other)
        assert shorter.keys() == longer.keys()  # the same samples
        for number, ids in shorter.items():
            cut, full = segments(ids, sep), segments(longer[number], sep)
            assert len(cut) == len(full) == (1 if task_name == "none" else 2)
            assert cut[-1] == full[-1][: len(cut[-1])]  # the last one loses its end
            if len(cut) == 2:
                assert cut[0] == full[0][-len(cut[0]) :]  # A its beginning
                assert min(map(len, cut)) > 0
    assert [m.rows for m in task.validated] == [m.rows for m in plain.validated]


def unmasked(batch: Any) -> dict[int, list[int]]:
    ids = batch.input_ids.clone()
    ids[batch.masked_positions] = batch.masked_labels
    rows = ids.split(batch.lengths.tolist())
    return {number: row.tolist() for number, row in zip(batch.index.tolist(), rows, strict=True)}


def segments(ids: list[int], sep: int) -> list[list[int]]:
    """The texts between [CLS] and the [SEP]s."""
    assert (ids[0], ids[-1]) == (2, sep)
    inner = ids[1:-1]
    if sep not in inner:
        return [inner]
    at = inner.index(sep)
    assert sep not in inner[at + 1 :]
    return [inner[:at], inner[at + 1 :]]


def test_the_longer_segment_is_cut_first() -> None:
    sizes = np.array([[9, 2], [2, 9], [9, 9], [3, 4], [7, 0], [5, 3]])
    made = shorten(Examples(np.array([[100, 200]] * 6), sizes, np.zeros(6, dtype=np.int64)), 10)
    # Room for 7 tokens of a pair, for 8 of a single text.
    assert made.sizes.tolist() == [[5, 2], [2, 5], [3, 4], [3, 4], [7, 0], [4, 3]]
    assert made.starts.tolist() == [[104, 200], [100, 200], [106, 200], [100, 200], [100, 200], [101, 200]]


@pytest.mark.parametrize("kind", [texts, pretraining])
@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_is_never_killed(kind: Any, workers: int, sources: Path, tmp_path: Path) -> None:
    def data(workers: int) -> Any:
        return kind(sources, num_workers=workers, batch_size=8)

    def made() -> list[Strategy]:
        return [SequenceLengthWarmup(8, fraction=0.9)]

    common: dict[str, Any] = {"max_steps": 12, "accumulate_grad_batches": 2}
    whole = watch(made(), data(workers), tmp_path, **common).seen
    assert len({micro.longest for micro in whole}) > 3
    for stop in (1, 7) if workers == 0 else (5,):
        folder = tmp_path / str(stop)
        first = watch(made(), data(0), folder, stop=stop + 1, **common).seen
        second = watch(made(), data(workers), folder, folder / f"step={stop}.ckpt", **common).seen
        assert [micro for micro in first if micro.step < stop] + second == whole


def test_ranks_share_the_same_step(sources: Path) -> None:
    data = texts(sources)
    data.setup("fit")
    course = Course(length=lambda step: 6 + step)

    def sampled(ranks: int, rank: int, micro_batches: int) -> list[Any]:
        loader = data.train_dataloader()
        sampler: Any = loader.sampler
        made = type(sampler)(sampler.lengths, 16, None, ranks, rank, micro_batches, seed=2)
        made.resume(0, 3, 3, course)
        return [data.dataset("train")[part] for part in made]

    one, two = sampled(1, 0, 2), [sampled(2, rank, 1) for rank in range(2)]
    assert len(one) == 18
    for step in range(9):
        for rank in range(2):
            assert torch.equal(one[2 * step + rank].input_ids, two[rank][step].input_ids)
        assert max(int(one[2 * step + part].lengths.max()) for part in range(2)) <= 9 + step


def test_a_strategy_that_never_acts_says_so(sources: Path, tmp_path: Path) -> None:
    for strategy, reason in (
        (SequenceLengthWarmup(64), "start_length 64 is not less than the longest training sequence, 22"),
        (SequenceLengthWarmup(8, fraction=0.01), "fraction 0.01 of the training is not one step"),
    ):
        with pytest.warns(UserWarning, match=reason):
            task = watch([strategy], texts(sources), tmp_path, max_steps=3)
        plain = watch([], texts(sources), tmp_path, max_steps=3)
        assert task.seen == plain.seen


def test_an_end_below_the_longest_is_the_limit_to_the_end(
    sources: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """Also where there is no step to grow over."""
    for fraction, limits in ((0.5, [8, 9, 10, 10]), (0.01, [10] * 4)):
        warmup = SequenceLengthWarmup(8, end_length=10, fraction=fraction, multiple=1)
        task = watch([warmup], texts(sources), tmp_path, max_steps=4)
        assert [micro.longest for micro in task.seen] == limits
    assert not [str(w.message) for w in recwarn if "would do nothing" in str(w.message)]


def test_what_cannot_be_followed_is_refused(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sequences of 3 tokens.*fewer than 5"):
        watch([SequenceLengthWarmup(3)], pairs(sources), tmp_path, max_steps=3)
    with pytest.raises(ValueError, match=r"sequences of 4 tokens; 8 or more"):
        watch([SequenceLengthWarmup(4)], pretraining(sources), tmp_path, max_steps=3)
    windows = tagged(sources, max_length=12, window_context=4)
    with pytest.raises(ValueError, match=r"sequences of 4 tokens.*fewer than \d"):
        watch([SequenceLengthWarmup(4)], windows, tmp_path, max_steps=3)
    for arguments in ({"start_length": 0}, {"end_length": 8}, {"fraction": 0.0}, {"multiple": 0}):
        with pytest.raises(ValueError, match=f"SequenceLengthWarmup.*{next(iter(arguments))}"):
            SequenceLengthWarmup(**arguments)


class Deaf(TinyData):
    course_parts = frozenset({"mask_rate"})  # type: ignore[assignment]


class InStages(Strategy):
    when = AtStep(3)
    touches: ClassVar[set[str]] = {"length"}

    def apply(self, run: Run) -> None:
        run.set_course(Course(length=lambda _: 8))


class Undeclared(Strategy):
    stages = 1
    touches: ClassVar[set[str]] = {"length"}

    def apply(self, run: Run) -> None:
        run.set_course(Course(mask_rate=lambda _: 0.5))


def test_the_facade_refuses_before_the_first_step(tmp_path: Path) -> None:
    cases: list[tuple[Strategy, TinyData, type[Exception], str]] = [
        (
            SequenceLengthWarmup(),
            Deaf(),
            TypeError,
            r"changes length of.*Deaf cannot do: it can change mask_rate",
        ),
        (InStages(), TinyData(), ValueError, r"InStages changes the training data and has several stages"),
        (Undeclared(), TinyData(), ValueError, r"add 'mask_rate' to Undeclared.touches"),
    ]
    for strategy, data, kind, said in cases:
        task = TinyTask()
        with pytest.raises(kind, match=said):
            fit([strategy], tmp_path, task=task, data=data)
        assert task.losses == []


def test_the_data_is_as_before_when_training_ends(sources: Path, tmp_path: Path) -> None:
    data = texts(sources)
    watch([SequenceLengthWarmup(8)], data, tmp_path, max_steps=2)
    again = watch([], data, tmp_path, max_steps=2)
    plain = watch([], texts(sources), tmp_path, max_steps=2)
    assert again.seen == plain.seen

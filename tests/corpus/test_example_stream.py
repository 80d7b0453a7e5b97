from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertlab.corpus.example_stream import ExampleStream, Pass
from bertlab.corpus.held_out import hold_out
from bertlab.corpus.pairs import NEXT_SENTENCE, SENTENCE_ORDER, Examples, PairRules, make_examples
from bertlab.corpus.pass_lengths import PassLengths, lengths_file
from bertlab.corpus.random_numbers import key_of
from bertlab.corpus.token_store import TokenStore
from tests.corpus.small_corpus import sizes_like_text, texts_of, write_store

RULES = PairRules(NEXT_SENTENCE, 61, 0.1)


def flat(examples: Examples) -> np.ndarray:
    return np.concatenate([examples.starts, examples.sizes, examples.labels[:, None]], axis=1)


@pytest.fixture(scope="module")
def stream() -> ExampleStream:
    return ExampleStream(texts_of(sizes_like_text(30)), RULES, seed=3, block=40)


def test_examples_from_anywhere_are_those_of_the_whole(stream: ExampleStream) -> None:
    """Over blocks and epochs, forwards and backwards, in one piece or in many."""
    epoch = stream.examples_per_epoch()
    assert epoch > 3 * 40
    whole, keys = flat(stream.examples(0, 3 * epoch)), stream.keys(0, 3 * epoch)
    for first, stop in [(epoch - 5, epoch + 9), (2, 5), (2 * epoch + 7, 3 * epoch), (39, 41), (0, 2 * epoch)]:
        fresh = ExampleStream(stream.texts, RULES, seed=3, block=40)
        assert (flat(fresh.examples(first, stop)) == whole[first:stop]).all()
        assert (flat(stream.examples(first, stop)) == whole[first:stop]).all()
        fresh = ExampleStream(stream.texts, RULES, seed=3, block=40)
        assert (fresh.keys(first, stop) == keys[first:stop]).all()
    assert len(set(keys.tolist())) == len(keys)


def test_an_epoch_is_one_pass_and_epochs_differ(stream: ExampleStream) -> None:
    counts = [stream.examples_per_epoch(epoch) for epoch in range(5)]
    assert len(set(counts)) > 1
    assert max(counts) < 1.15 * min(counts)
    first, second = (
        flat(stream.examples(0, counts[0])),
        flat(stream.examples(counts[0], counts[0] + counts[1])),
    )
    assert stream.locate(counts[0]) == (1, 0)
    assert stream.locate(sum(counts[:3]) - 1) == (2, counts[2] - 1)
    assert {tuple(row) for row in first.tolist()} != {tuple(row) for row in second.tolist()}
    other = ExampleStream(stream.texts, RULES, seed=4, block=40)
    assert flat(other.examples(0, 20)).tolist() != first[:20].tolist()


def test_blocks_change_the_order_alone(stream: ExampleStream) -> None:
    one, many = (Pass(stream.texts, RULES, key_of(1), block) for block in (10_000, 25))
    assert sorted(flat(one.examples(0, len(one))).tolist()) == sorted(
        flat(many.examples(0, len(many))).tolist()
    )
    starts = one.examples(0, len(one)).starts[:, 0]
    assert (np.diff(starts) < 0).mean() > 0.3, "shuffled"
    with pytest.raises(IndexError, match=f"of a pass of {len(one)} examples"):
        one.examples(0, len(one) + 1)


def test_a_step_may_take_many_passes() -> None:
    stream = ExampleStream(texts_of([[3, 4], [5]]), PairRules(SENTENCE_ORDER, 20, 0.0), seed=0)
    assert stream.examples_per_epoch() == 2
    assert sorted(stream.examples(0, 7).starts[:, 0].tolist())[-1] >= 7
    assert stream.locate(6) == (3, 0)


def test_a_late_start_goes_through_no_pass_that_was_counted_before(
    stream: ExampleStream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And gives the same, also where what was kept is damaged."""
    gone_through: list[tuple[int, int]] = []

    def watched(texts: Any, rules: Any, key: Any, position: int, *rest: Any) -> tuple[int, int]:
        end, made = make_examples(texts, rules, key, position, *rest)
        gone_through.append((int(key), end - position))
        return end, made

    def start(lengths: PassLengths | None) -> list[int]:
        """Documents gone through in each pass until the first examples are made."""
        gone_through.clear()
        late = ExampleStream(stream.texts, RULES, seed=3, block=40, lengths=lengths)
        assert (flat(late.examples(first, first + 9)) == examples).all()
        assert (late.keys(first, first + 9) == keys).all()
        assert late.examples_per_epoch(0) == count
        keys_of_passes = [int(key_of(3, 0, epoch)) for epoch in range(4)]
        return [sum(documents for key, documents in gone_through if key == one) for one in keys_of_passes]

    first = sum(stream.examples_per_epoch(epoch) for epoch in range(3)) + 50
    examples, keys = flat(stream.examples(first, first + 9)), stream.keys(first, first + 9)
    count = stream.examples_per_epoch(0)
    monkeypatch.setattr("bertlab.corpus.example_stream.make_examples", watched)
    file = tmp_path / "lengths"
    anew = start(PassLengths(file))
    assert anew == [30, 30, 30, anew[3]]
    assert start(PassLengths(file)) == [0, 0, 0, anew[3]]
    assert anew[3] > 0
    with file.open("r+b") as opened:  # the second record was written in part
        opened.seek(16)
        opened.write(bytes(5))
    assert start(PassLengths(file)) == [0, 30, 0, anew[3]]
    assert start(PassLengths(file)) == [0, 0, 0, anew[3]]
    unwritable = file / "below a file"
    assert start(PassLengths(unwritable)) == start(PassLengths(unwritable)) == start(None) == anew


def test_passes_before_an_example_are_told_whatever_was_counted_ahead(
    stream: ExampleStream, tmp_path: Path
) -> None:
    counts = [stream.examples_per_epoch(epoch) for epoch in range(4)]
    lengths = PassLengths(tmp_path / "lengths")
    ahead = ExampleStream(stream.texts, RULES, seed=3, block=40, lengths=lengths)
    ahead.locate(sum(counts))
    ends = [sum(counts[:passes]) for passes in range(1, 4)]
    for other in (lengths, PassLengths(tmp_path / "lengths")):
        found = [other.before(number) for end in ends for number in (end, end + 1)]
        assert found == [counts[:passes] for passes in (0, 1, 1, 2, 2, 3)]
    for passes, end in enumerate(ends, start=1):
        just = PassLengths()
        ExampleStream(stream.texts, RULES, seed=3, block=40, lengths=just).examples(end - 1, end + 1)
        assert just.before(end + 1) == counts[:passes], "who has made the example knows them"


def test_lengths_are_kept_by_all_that_they_depend_on(tmp_path: Path) -> None:
    one, same, other = (
        TokenStore.open(write_store(tmp_path / name, 12, seed))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    some, more = np.arange(5), np.arange(6)
    name = lengths_file(one, some, RULES, 1, 0)
    assert lengths_file(same, some, RULES, 1, 0) == name
    others = [
        lengths_file(other, some, RULES, 1, 0),
        lengths_file(one, more, RULES, 1, 0),
        lengths_file(one, some, RULES._replace(tokens=60), 1, 0),
        lengths_file(one, some, RULES, 2, 0),
        lengths_file(one, some, RULES, 1, 1),
    ]
    assert len({name, *others}) == 6


def test_held_out_documents() -> None:
    train, held = hold_out(1000, 0.05, seed=1, least=2)
    assert len(held) == 50
    assert sorted([*train, *held]) == list(range(1000))
    assert held.tolist() != hold_out(1000, 0.05, seed=2, least=2)[1].tolist()
    assert [len(part) for part in hold_out(10, 0.0, 0, 1)] == [10, 0]
    assert [len(part) for part in hold_out(10, 0.001, 0, 2)] == [8, 2]
    with pytest.raises(
        ValueError, match=r"has 3 documents, of which 2 would .*_fraction: 0 .*, or .*_order or none$"
    ):
        hold_out(3, 0.1, 0, 2)
    with pytest.raises(ValueError, match=r"has 1 documents, .*_fraction: 0 .* and .*sentence_order or none$"):
        hold_out(1, 0.1, 0, 2)
    with pytest.raises(
        ValueError, match=r"corpus, or set data\.init_args\.sentence_task: sentence_order or none$"
    ):
        hold_out(1, 0.0, 0, 2)
    with pytest.raises(ValueError, match=r"validation_fraction: 0 to train on all of them$"):
        hold_out(1, 0.1, 0, 1)

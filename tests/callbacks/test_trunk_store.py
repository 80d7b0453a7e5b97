"""What is kept of rows, how it is known again, and what is not kept."""

from __future__ import annotations

import copy
import errno
import os
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bertlab.callbacks.trunk_keys import TrunkWatch, row_fingerprints
from bertlab.callbacks.trunk_lookup import TrunkLookup, part_of
from bertlab.callbacks.trunk_store import TrunkStore
from bertlab.interfaces import Block, TextBatch

LENGTHS = np.array([3, 5, 2, 5, 1])
WIDTH = 4


def texts(rows: list[int], changes: dict[int, list[int]] | None = None) -> TextBatch:
    """Rows of tokens 100 · row, 100 · row + 1, …; `changes` gives rows other tokens."""
    tokens = [(changes or {}).get(row, [100 * row + i for i in range(LENGTHS[row])]) for row in rows]
    ids = torch.tensor([token for of_row in tokens for token in of_row])
    lengths = torch.tensor([len(of_row) for of_row in tokens])
    return TextBatch(ids, torch.zeros_like(ids), lengths, torch.tensor(rows))


def values_of(batch: TextBatch, unit: str) -> Tensor:
    """A vector that says which token, or which row, it is of."""
    of = batch.input_ids if unit == "token" else batch.index
    return of[:, None] + torch.arange(WIDTH) / 8


def store(tmp_path: Path, unit: Any = "token", max_bytes: int = 10**6, **arguments: Any) -> TrunkStore:
    made = TrunkStore(
        tmp_path / "kept.bin", LENGTHS, unit, torch.zeros(1, WIDTH), max_bytes=max_bytes, **arguments
    )
    for row in made.rows.tolist():
        made.expect(texts([row]))
        made.write(texts([row]), values_of(texts([row]), unit))
    return made


@pytest.mark.parametrize("unit", ["token", "sequence"])
def test_rows_are_read_in_any_order(unit: str, tmp_path: Path) -> None:
    kept, wanted = store(tmp_path, unit), texts([3, 0, 4, 2])
    assert kept.known(wanted)[0].all()
    assert torch.equal(kept.read(wanted.index, wanted.lengths), values_of(wanted, unit))
    assert (
        kept.bytes == {"token": 16, "sequence": 5}[unit] * WIDTH * 4 == (tmp_path / "kept.bin").stat().st_size
    )


@pytest.mark.parametrize(
    ("unit", "vectors", "rows"),
    [("token", 15, [1, 3, 0, 2]), ("token", 12, [1, 3]), ("token", 4, []), ("sequence", 3, [1, 3, 0])],
)
def test_the_longest_rows_are_kept(unit: str, vectors: int, rows: list[int], tmp_path: Path) -> None:
    kept = store(tmp_path, unit, max_bytes=vectors * WIDTH * 4 + 3)
    assert kept.rows.tolist() == rows
    everything = texts([0, 1, 2, 3, 4])
    known, changed = kept.known(everything)
    assert known.nonzero().flatten().tolist() == sorted(rows)
    assert not changed.any()


def test_bfloat16_takes_half_and_is_given_back_as_it_was_computed(tmp_path: Path) -> None:
    kept = store(tmp_path, dtype=torch.bfloat16)
    assert kept.bytes == 16 * WIDTH * 2
    found = kept.read(torch.tensor([1]), torch.tensor([5]))
    assert found.dtype == torch.float32
    assert torch.equal(found, values_of(texts([1]), "token").bfloat16().float())


def test_a_row_with_other_tokens_is_not_known(tmp_path: Path) -> None:
    kept = store(tmp_path)
    cut, other = {0: [0, 1]}, {0: [0, 1, 3]}
    for changes in (cut, other):
        known, changed = kept.known(texts([1, 0], changes))
        assert known.tolist() == [True, False]
        assert changed.tolist() == [False, True]
    beyond = texts([1])
    beyond.index += 100
    assert not any(found.any() for found in kept.known(beyond))


def test_processes_share_a_file_that_has_no_name(tmp_path: Path) -> None:
    first = store(tmp_path)
    second = TrunkStore(first.path, LENGTHS, "token", torch.zeros(1, WIDTH), 10**6)
    first.hide()
    second.hide()
    assert list(tmp_path.iterdir()) == []
    first.write(texts([2]), torch.full((2, WIDTH), 7.0))
    assert torch.equal(second.read(torch.tensor([2]), torch.tensor([2])), torch.full((2, WIDTH), 7.0))


def test_a_full_disk_is_said_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        OSError, match=r"FrozenTrunkCache.max_gib: there is no room for 0.00 GiB in .*bfloat16"
    ):
        store(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_fingerprints_tell_rows_apart_wherever_they_stand() -> None:
    one, other = row_fingerprints(texts([1, 3, 0])), row_fingerprints(texts([0, 1, 3]))
    assert one.tolist() == other[[1, 2, 0]].tolist()
    assert len({*one.tolist()}) == 3
    batch = texts([1])
    base = int(row_fingerprints(batch))
    for place in range(5):
        for name in ("input_ids", "token_type_ids"):
            changed = texts([1])
            getattr(changed, name)[place] += 1
            assert int(row_fingerprints(changed)) != base
    assert (
        int(row_fingerprints(texts([1], {1: [101, 100, 102, 103, 104]}))) != base
    )  # two tokens changed places


def test_a_thousand_short_rows_have_a_thousand_fingerprints() -> None:
    ids = torch.cartesian_prod(*[torch.arange(10)] * 3).flatten()
    batch = TextBatch(ids, torch.zeros_like(ids), torch.full((1000,), 3), torch.arange(1000))
    assert len(set(row_fingerprints(batch).tolist())) == 1000


def test_the_frozen_run_ends_at_what_is_trained_or_has_dropout_on() -> None:
    blocks = [Block(str(i), (nn.Linear(1, 1),), depth=3 - i) for i in range(4)]
    watch = TrunkWatch(blocks)
    assert watch.frozen() == 0
    for block in blocks[:3]:
        block.train(False)
        for parameter in block.parameters():
            parameter.requires_grad_(False)
    assert watch.frozen() == 3
    assert watch.names(2) == ["0", "1"]
    blocks[1].train()
    assert watch.frozen() == 1


def test_weights_are_watched() -> None:
    blocks = [Block(str(i), (nn.Linear(3, 2, bias=False, dtype=torch.bfloat16),), depth=i) for i in range(3)]
    lower, _, upper = (next(block.parameters()) for block in blocks)
    watch = TrunkWatch(blocks)
    first = watch.digest(2)
    assert watch.digest(2) == first != watch.digest(3)
    before = lower.detach().clone()
    with torch.no_grad():
        upper.add_(1)
        assert watch.digest(2) == first
        lower[0, 0] += 1
        second = watch.digest(2)
        lower.copy_(before)
    assert second != first == watch.digest(2)
    lower.data += 1  # torch does not count it
    watch.look_closely()
    assert watch.digest(2) not in (first, second)


class Doubles(nn.Module):
    """A task whose trunk gives the vectors of `values_of`; it remembers the rows that it was run on."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit, self.run_on, self.known_trunk = unit, [], None
        self.trainer = SimpleNamespace(validating=False)

    def trunk_unit(self, blocks: int) -> str:
        return self.unit

    def trunk(self, batch: TextBatch, blocks: int) -> Tensor:
        self.run_on.append(batch.index.tolist())
        return values_of(batch, self.unit)


@pytest.mark.parametrize("unit", ["token", "sequence"])
def test_rows_that_are_not_kept_are_computed_beside_the_others(unit: Any, tmp_path: Path) -> None:
    task: Any = Doubles(unit)
    lookup = TrunkLookup(task)
    assert lookup(texts([1])) is None
    lookup.stores["train"] = store(tmp_path, unit, max_bytes={"token": 13, "sequence": 3}[unit] * WIDTH * 4)
    lookup.blocks = 2
    wanted = texts([3, 0, 2, 1, 4])
    found = lookup(wanted)
    assert found is not None
    assert found.blocks == 2
    assert torch.equal(found.values, values_of(wanted, unit))
    assert task.run_on == [[2, 4]]
    assert lookup(texts([2, 4])) is None  # the whole model is run


def test_nothing_is_known_while_other_weights_stand_in_the_model_or_of_another_split(tmp_path: Path) -> None:
    task: Any = Doubles("token")
    lookup = TrunkLookup(task)
    lookup.stores["train"] = store(tmp_path)
    assert lookup(texts([1])) is not None
    lookup.valid = False
    assert lookup(texts([1])) is None
    lookup.valid, task.trainer.validating = True, True
    assert lookup(texts([1])) is None


def test_changed_rows_are_said_once(tmp_path: Path) -> None:
    lookup = TrunkLookup(Doubles("token"))  # type: ignore[arg-type]
    lookup.stores["train"] = store(tmp_path)
    cut = texts([1, 0], {0: [0, 1]})
    with pytest.warns(UserWarning, match="1 of 2 rows of a batch are not those that the data module gave"):
        found = lookup(cut)
    assert found is not None
    assert torch.equal(found.values, values_of(cut, "token"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lookup(cut)


def test_a_copy_of_a_task_knows_nothing(tmp_path: Path) -> None:
    assert copy.deepcopy(TrunkLookup(Doubles("token"))) is None  # type: ignore[arg-type]


def test_a_part_of_a_batch() -> None:
    part = part_of(texts([1, 0, 2]), torch.tensor([True, False, True]))
    for name in ("input_ids", "token_type_ids", "lengths", "index"):
        assert torch.equal(getattr(part, name), getattr(texts([1, 2]), name))

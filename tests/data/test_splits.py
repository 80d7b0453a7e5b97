from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.data.division import warn_of_overlap, without_duplicates
from bertlab.data.rows import TextRows, strata
from bertlab.data.splits import split_rows

FRACTIONS = {"validation": 0.1, "test": 0.2}


@given(
    keys=st.lists(st.integers(0, 40), min_size=1, max_size=120),
    classes=st.integers(1, 5),
    seed=st.integers(0, 9),
)
@settings(deadline=None)
def test_a_division(keys: list[int], classes: int, seed: int) -> None:
    labels = [key % classes for key in keys]
    splits = split_rows(keys, labels, FRACTIONS, seed)
    assert sorted(np.concatenate(list(splits.values())).tolist()) == list(range(len(keys)))
    texts = {name: {keys[row] for row in rows} for name, rows in splits.items()}
    assert not texts["train"] & texts["test"]
    assert not texts["train"] & texts["validation"]
    assert not texts["validation"] & texts["test"]
    assert {labels[row] for row in splits["train"]} == set(labels), "every class is trained"
    again = split_rows(keys, labels, FRACTIONS, seed)
    assert all((again[name] == rows).all() for name, rows in splits.items())
    groups = {label: len({key for key in keys if key % classes == label}) for label in set(labels)}
    for name, fraction in FRACTIONS.items():
        for label, number in groups.items():
            got = len({key for key in texts[name] if key % classes == label})
            assert abs(got - fraction * number) <= 1.5


def test_the_known_answer_of_a_small_division() -> None:
    """Twelve rows, two classes, 2 : 1; what seed 0 gives must not change, or published splits would."""
    labels = ["a"] * 8 + ["b"] * 4
    splits = split_rows(range(12), labels, {"test": 0.25}, seed=0)
    assert {name: Counter(labels[row] for row in rows) for name, rows in splits.items()} == {
        "train": {"a": 6, "b": 3},
        "test": {"a": 2, "b": 1},
    }
    assert splits["test"].tolist() == [2, 4, 9]
    assert split_rows(range(12), labels, {"test": 0.25}, seed=1)["test"].tolist() != [2, 4, 9]


def test_many_small_classes_add_up_to_the_right_size() -> None:
    labels = [row // 4 for row in range(400)]  # 4 rows of each of 100 classes: 0.4 of each for the test split
    splits = split_rows(range(400), labels, {"test": 0.1}, seed=0)
    assert 38 <= len(splits["test"]) <= 42


def rows(texts: list[str], labels: list[int], where: str = "file") -> TextRows:
    return TextRows(texts, None, np.array(labels), None, where)


def test_deduplication_keeps_the_test_split_whole() -> None:
    splits = {"train": rows(["x", "y", "x", "z"], [0, 1, 0, 1]), "test": rows(["z", "w", "w"], [1, 0, 0])}
    kept = without_duplicates(splits)
    assert list(kept) == ["train", "test"]
    assert kept["train"].texts == ["x", "y"]
    assert kept["test"].texts == ["z", "w"]
    assert kept["train"].labels.tolist() == [0, 1]


def test_conflicting_duplicates_and_overlaps_are_told() -> None:
    with pytest.warns(UserWarning, match=r"file: 1 texts occur more than once with different labels.*'x'"):
        without_duplicates({"train": rows(["x", "x"], [0, 1])})
    with pytest.warns(UserWarning, match=r"tests: 1 of its 2 texts are in the training split too \(file\)"):
        warn_of_overlap({"train": rows(["x"], [0]), "test": rows(["x", "y"], [0, 1], "tests")})


def test_strata() -> None:
    assert strata(np.array([2, 0])) == [2, 0]
    assert strata(np.array([[1, 1], [1, 0], [0, 0]])) == [1, 0, -1], "the rarest label of a row"
    assert strata(np.arange(20.0)) == [n // 2 for n in range(20)]

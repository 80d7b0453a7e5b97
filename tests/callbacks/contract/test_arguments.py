"""Combinations are drawn with every argument that a strategy has, or it is said why not."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample, Unsatisfiable

from bertlab.encoders.adapters import METHODS
from tests.callbacks.contract.arguments import LEFT_OUT, table
from tests.callbacks.contract.combinations import class_of
from tests.callbacks.contract.fragments import FRAGMENTS
from tests.callbacks.contract.grounds import Texts, Vectors

CLASSES = {kind.__name__: kind for kind in map(class_of, FRAGMENTS)}
TABLES = (table(Vectors), table(Texts))
MANY = settings(
    max_examples=500,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def is_drawn(name: str, condition: Callable[[dict[str, Any]], bool]) -> bool:
    """Whether arguments of a class that fulfil a condition are found among some hundred draws."""
    rows = st.one_of(*(rows[name] for rows in TABLES if name in rows))
    try:
        find(rows, condition, settings=MANY, random=Random(0))
    except (NoSuchExample, Unsatisfiable):
        return False
    return True


@pytest.mark.parametrize("name", CLASSES)
def test_every_argument_is_drawn_or_left_out_for_a_reason(name: str) -> None:
    """Drawn is what has other values than the default."""
    defaults = {key: value.default for key, value in inspect.signature(CLASSES[name]).parameters.items()}
    left_out = {key for owner, key in LEFT_OUT if owner == name}
    assert left_out <= defaults.keys()
    for key, default in defaults.items():
        varied = is_drawn(name, lambda drawn, of=key, usual=default: drawn.get(of, usual) != usual)
        assert varied == (key not in left_out), key


@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_adapters_is_drawn(method: str) -> None:
    assert is_drawn("LowRankAdapters", lambda drawn: drawn["config"].peft_type.value == method)


@pytest.mark.parametrize("key", ["use_dora", "use_rslora"])
def test_variants_of_lora_are_drawn(key: str) -> None:
    assert is_drawn("LowRankAdapters", lambda drawn: getattr(drawn["config"], key, False))


def test_what_is_left_out_is_of_strategies_that_are_there() -> None:
    assert {owner for owner, _ in LEFT_OUT} <= CLASSES.keys()

"""Equality bit for bit, through containers, that says where it fails."""

from __future__ import annotations

from typing import Any

import torch


def assert_equal(one: Any, other: Any, where: str = "") -> None:
    """Equal types, keys in equal order, equal lengths, equal values, tensors equal bit for bit."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_equal(one[key], other[key], f"{where}[{key!r}]")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            assert_equal(mine, theirs, f"{where}[{index}]")
    else:
        assert one == other, where

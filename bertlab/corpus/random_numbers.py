"""Random numbers as pure functions of a key and a counter: there is no generator, so there is no state to save.

SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators", with Stafford's mix 13).
Integer arithmetic alone, so that every machine and every version of NumPy draws the same.
"""

from __future__ import annotations

import numpy as np

from bertlab.corpus.compiled import compiled

Bits = np.uint64

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_ONE = np.uint64(1)


@compiled
def draw(key: Bits, number: int | Bits) -> Bits:
    """64 random bits: number `number` (0 or more) of the sequence that belongs to `key`; a key in its turn."""
    value = key + (np.uint64(number) + _ONE) * _GOLDEN
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))


@compiled
def chance(bits: Bits) -> float:
    """A number in [0, 1) from the upper 53 bits."""
    return np.float64(bits >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@compiled
def below(bits: Bits, count: int) -> int:
    """A whole number in [0, count), count at most 2^31; no value is likelier than another by more than 2^-22."""
    return int(chance(bits) * count)


@compiled
def permuted(position: int, count: int, key: Bits) -> int:
    """Where `position` goes in a random permutation of 0 … count − 1, in constant time and memory.

    A Feistel network of four rounds over the smallest 2^2h ≥ count, walked until it comes back below count
    (Black & Rogaway 2002, "Ciphers with arbitrary finite domains").
    """
    half = np.uint64(1)
    while (_ONE << (half + half)) < np.uint64(count):
        half += _ONE
    mask = (_ONE << half) - _ONE
    value = np.uint64(position)
    while True:
        left, right = value >> half, value & mask
        for turn in range(4):
            left, right = right, left ^ (draw(key + np.uint64(turn), right) & mask)
        value = (left << half) | right
        if value < np.uint64(count):
            return int(np.int64(value))


@compiled
def draws(key: Bits, first: int, out: np.ndarray) -> None:
    """Fill `out` (n,) uint64 with the numbers `first`, `first` + 1, … of a key's sequence."""
    for place in range(len(out)):
        out[place] = draw(key, first + place)


def key_of(*numbers: int) -> Bits:
    """A key of its own for each tuple of whole numbers (each from 0 to 2^63 − 1).

    >>> key_of(0, 1) == key_of(0, 1), key_of(0, 1) == key_of(1, 0)
    (True, False)
    """
    key = np.uint64(len(numbers))
    for number in numbers:
        key = np.uint64(draw(key, number))
    return key


def permuted_range(first: int, stop: int, count: int, key: Bits) -> np.ndarray:
    """(stop − first,) int64: where the positions `first` … `stop` − 1 go; see `permuted`."""
    out = np.empty(stop - first, dtype=np.int64)
    _permuted_range(first, count, key, out)
    return out


@compiled
def _permuted_range(first: int, count: int, key: Bits, out: np.ndarray) -> None:
    for place in range(len(out)):
        out[place] = permuted(first + place, count, key)

"""The examples of pass after pass over a corpus, found by their number."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from bertlab.corpus.compiled import read_only
from bertlab.corpus.examples import Examples, empty_examples
from bertlab.corpus.pairs import NEXT_SENTENCE, PairRules, Texts, make_examples
from bertlab.corpus.pass_lengths import PassLengths
from bertlab.corpus.random_numbers import draws, key_of, permuted_range

BLOCK = 65_536  # examples that are made and shuffled together: 2.6 MB


class Pass:
    """One pass (epoch) over a corpus: every document once, in an order of its own, in blocks.

    A block holds the examples of the next documents until there are `block` of them, shuffled. Where blocks begin
    is counted on the way, as far as examples are asked for, without making them; so memory is bounded by one
    block and its last document, and starting anywhere costs the counting before it and no example.

    Args:
        texts: the documents of a split.
        rules: of the examples.
        key: see `random_numbers.key_of`; the pass is a function of it.
        block: examples of a block, at least; its last document may bring more.
    """

    def __init__(self, texts: Texts, rules: PairRules, key: np.uint64, block: int = BLOCK) -> None:
        self.texts, self.rules, self.key, self.block = texts, rules, key, block
        self._positions, self._counts = [0], [0]  # documents and examples before each block that was counted
        self._made: tuple[int, Examples] | None = None

    def __len__(self) -> int:
        """Examples of the whole pass; counts to the end."""
        while not self._complete:
            self._count_block()
        return self._counts[-1]

    def has(self, number: int) -> bool:
        """Whether the pass has an example of this number; counts no further than to it."""
        while not self.counted(number) and not self._complete:
            self._count_block()
        return self.counted(number)

    def counted(self, number: int) -> bool:
        """Whether an example of this number was counted already."""
        return number < self._counts[-1]

    def examples(self, first: int, stop: int) -> Examples:
        """The examples `first` to `stop` (not included), of which the pass must have all."""
        parts: list[Examples] = []
        while first < stop:
            if not self.has(first):
                raise IndexError(f"example {first} of a pass of {len(self)} examples")
            block = bisect_right(self._counts, first) - 1
            begin, end = self._counts[block], min(stop, self._counts[block + 1])
            places = permuted_range(first - begin, end - begin, self._counts[block + 1] - begin, self.key)
            parts.append(self._block(block).take(places))
            first = end
        return join(parts)

    @property
    def _complete(self) -> bool:
        return self._positions[-1] == len(self.texts.documents)

    def _count_block(self) -> None:
        position, made = make_examples(
            self.texts, self.rules, self.key, self._positions[-1], self.block, False, empty_examples(0)
        )
        self._positions.append(position)
        self._counts.append(self._counts[-1] + made)

    def _block(self, block: int) -> Examples:
        if self._made is None or self._made[0] != block:
            out = empty_examples(self._counts[block + 1] - self._counts[block])
            self._made = None  # the block before is given up first
            make_examples(self.texts, self.rules, self.key, self._positions[block], self.block, True, out)
            self._made = (block, out)
        return self._made[1]


class ExampleStream:
    """Examples without end: pass after pass, each a function of (seed, stream, epoch).

    Args:
        texts: the documents of a split.
        rules: of the examples.
        seed: of the data.
        stream: tells streams with the same seed apart (phases of training, validation).
        block: see `Pass`.
        lengths: knows passes that were counted before, and remembers those that are; None: for this object alone.

    Raises:
        ValueError: there are not enough documents to make examples from.
    """

    def __init__(
        self,
        texts: Texts,
        rules: PairRules,
        seed: int,
        stream: int = 0,
        block: int = BLOCK,
        lengths: PassLengths | None = None,
    ) -> None:
        needed = 2 if rules.task == NEXT_SENTENCE else 1
        if len(texts.documents) < needed:
            raise ValueError(
                f"there are {len(texts.documents)} documents to make examples from, and {needed} are needed"
                + (": a random next sentence comes from another document" if needed == 2 else "")
            )
        self.texts, self.rules = Texts(*(read_only(array) for array in texts)), rules
        self.seed, self.stream, self.block = seed, stream, block
        self._lengths = PassLengths() if lengths is None else lengths
        self._starts = [0]  # number of the first example of each epoch that was counted
        self._passes: dict[int, Pass] = {}
        if not self._has(0, 0):
            raise ValueError("no document has two tokens in a row, so that there is no example to be made")

    def examples(self, first: int, stop: int) -> Examples:
        """The examples `first` to `stop` (not included) of the stream."""
        parts: list[Examples] = []
        while first < stop:
            epoch, within = self.locate(first)
            plan = self._take(epoch)
            end = within + stop - first
            if not self._has(epoch, end - 1):
                end = self.examples_per_epoch(epoch)
            parts.append(plan.examples(within, end))
            first += end - within
        return join(parts)

    def keys(self, first: int, stop: int) -> np.ndarray:
        """(stop − first,) uint64: a key of its own for each example, for its masks: of (seed, epoch, index)."""
        keys = np.empty(stop - first, dtype=np.uint64)
        self.locate(stop - 1)  # so that all epochs before the last are counted
        at = first
        while at < stop:
            epoch, within = self.locate(at)
            end = min(stop, self._starts[epoch + 1]) if epoch + 1 < len(self._starts) else stop
            draws(key_of(self.seed, self.stream, epoch, 1), within, keys[at - first : end - first])
            at = end
        return keys

    def locate(self, number: int) -> tuple[int, int]:
        """The epoch of an example, and its number in it; counts epochs that were not counted yet."""
        epoch = bisect_right(self._starts, number) - 1
        while epoch == len(self._starts) - 1 and not self._has(epoch, number - self._starts[epoch]):
            self._starts.append(self._starts[epoch] + self.examples_per_epoch(epoch))
            epoch += 1
        return epoch, number - self._starts[epoch]

    def go_to(self, number: int) -> None:
        """Count up to an example, as has to be done before it can be made."""
        epoch, within = self.locate(number)
        self._take(epoch).has(within)

    def examples_per_epoch(self, epoch: int = 0) -> int:
        """How many examples an epoch has: a function of (seed, epoch), a little different in each."""
        known = self._lengths.get(epoch)
        if known is None:
            known = len(self._take(epoch))
            self._lengths.keep(epoch, known)
        return known

    def _has(self, epoch: int, number: int) -> bool:
        """Whether an epoch has an example of this number; counts no further than to it, and nothing that is known."""
        taken = self._passes.get(epoch)
        if taken is not None and taken.counted(number):  # as nearly always: no file is read for it
            return True
        known = self._lengths.get(epoch)
        return self._take(epoch).has(number) if known is None else number < known

    def _take(self, epoch: int) -> Pass:
        if epoch not in self._passes:
            # Two are kept, since an optimizer step may lie in both.
            self._passes = {known: self._passes[known] for known in list(self._passes)[-1:]}
            self._passes[epoch] = self._pass(epoch)
        return self._passes[epoch]

    def _pass(self, epoch: int) -> Pass:
        return Pass(self.texts, self.rules, key_of(self.seed, self.stream, epoch), self.block)


def join(parts: list[Examples]) -> Examples:
    """Several lots of examples as one; none are no examples."""
    if not parts:
        return empty_examples(0)
    if len(parts) == 1:
        return parts[0]
    return Examples(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

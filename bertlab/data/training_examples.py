"""The training examples of a token store, made when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from bertlab.corpus.example_stream import ExampleStream
from bertlab.corpus.examples import Examples
from bertlab.corpus.masking import TOKEN, count_masks
from bertlab.corpus.packed_examples import lengths_of, special_tokens
from bertlab.corpus.pairs import PairRules, texts_of
from bertlab.corpus.pass_lengths import PassLengths, lengths_file
from bertlab.corpus.shortened_examples import shorten
from bertlab.data.masked_batches import MaskedBatches
from bertlab.interfaces import PretrainingBatch
from bertlab.samplers.micro_batch import Rows, balanced_parts
from bertlab.samplers.step_parts import StepPart


class TrainingExamples(Dataset[PretrainingBatch]):
    """Micro-batches by `StepPart`: the same for any number of workers, and the same samples for any of ranks.

    Args:
        batches: makes a batch of examples.
        documents: (n,) int64 documents to train on.
        rules: of the examples of each stream.
        seed: of the examples and their masks.
    """

    def __init__(
        self, batches: MaskedBatches, documents: Rows, rules: Sequence[PairRules], seed: int
    ) -> None:
        self.batches, self.documents, self.rules, self.seed = batches, documents, tuple(rules), seed
        self._streams: dict[int, ExampleStream] = {}
        self._lengths: dict[int, tuple[str, PassLengths]] = {}
        self._last: tuple[StepPart, Examples, list[Rows], int] | None = None

    def stream(self, number: int) -> ExampleStream:
        """The examples of a stream, by number."""
        if number not in self._streams:
            store = self.batches.store
            texts = texts_of(store, self.documents)
            rules, (_, lengths) = self.rules[number], self._lengths_of(number)
            self._streams = {number: ExampleStream(texts, rules, self.seed, number, lengths=lengths)}
        return self._streams[number]

    def passes_before(self, taken: Sequence[int]) -> dict[str, list[int]]:
        """What a checkpoint keeps, so that a resume where nothing is remembered goes through no earlier pass.

        Args:
            taken: how many examples of each stream were trained on.

        Returns:
            For each stream that is beyond its first pass, by what its passes depend on, the lengths of those that lie
            before the last example.
        """
        found = (
            (name, lengths.before(end))
            for end, (name, lengths) in zip(taken, self._all_lengths(), strict=False)
        )
        return {name: lengths for name, lengths in found if lengths}

    def remember(self, passes: Mapping[str, Sequence[int]]) -> None:
        """Take what `passes_before` gave; of passes that depend on something else by now, nothing is taken."""
        for name, lengths in self._all_lengths():
            for epoch, length in enumerate(passes.get(name, ())):
                lengths.keep(epoch, length)

    def _all_lengths(self) -> Iterator[tuple[str, PassLengths]]:
        return (self._lengths_of(number) for number in range(len(self.rules)))

    def _lengths_of(self, number: int) -> tuple[str, PassLengths]:
        """Of the passes of a stream, by what they depend on. Those of all are kept, for a checkpoint asks for them."""
        if number not in self._lengths:
            file = lengths_file(self.batches.store, self.documents, self.rules[number], self.seed, number)
            # A thread that makes batches ahead may do the same just now: the first one counts.
            self._lengths.setdefault(number, (file.name, PassLengths(file)))
        return self._lengths[number]

    def prepare(self, part: StepPart) -> None:
        """Find a micro-batch in the corpus, so that worker processes that are forked then need not count to it."""
        self.stream(part.step.stream).go_to(part.step.first)

    def __getitem__(self, part: StepPart) -> PretrainingBatch:
        """One micro-batch of an optimizer step: its share of the step's examples, balanced by tokens."""
        examples, shares, masked = self._step(part)
        rows = shares[part.part]
        step, size = part.step, part.step.size
        keys = self.stream(step.stream).keys(step.first, step.first + size)
        batch = self.batches.make(examples.take(rows), keys[rows], step.number + rows, part.mask_rate)
        batch.micro_batches = part.parts
        batch.step_sequences = size
        if part.parts > 1:
            batch.step_masked = masked
        return batch

    def quantities(self, part: StepPart) -> dict[str, float]:
        """Of the whole optimizer step that a micro-batch belongs to."""
        rules = self.rules[part.step.stream]
        examples, *_ = self._step(part)
        longest = rules.tokens + special_tokens(rules.task)
        return {
            "sequences": part.step.size,
            "tokens": int(lengths_of(examples).sum()),
            "length": longest if part.limit is None else min(longest, part.limit),
            "mask_rate": self.batches.rules_at(part.mask_rate).rate,
        }

    def _step(self, part: StepPart) -> tuple[Examples, list[Rows], int]:
        """All examples of a step, the rows of each part, and how many tokens are masked in it if it has parts."""
        step, whole = part.step, part._replace(part=0)
        if self._last is None or self._last[0] != whole:
            examples = self.stream(step.stream).examples(step.first, step.first + step.size)
            if part.limit is not None:
                examples = shorten(examples, part.limit)
            shares = balanced_parts(lengths_of(examples), part.parts)
            masked = self._masked(part, examples) if part.parts > 1 else 0
            self._last = (whole, examples, shares, masked)
        return self._last[1:]

    def _masked(self, part: StepPart, examples: Examples) -> int:
        rules, step = self.batches.rules_at(part.mask_rate), part.step
        if rules.mode == TOKEN:
            return int(count_masks(examples.sizes, rules).sum())
        keys = self.stream(step.stream).keys(step.first, step.first + step.size)
        return self.batches.make(examples, keys, np.arange(step.size), part.mask_rate).step_masked

    def __getstate__(self) -> dict[str, Any]:
        """Without the plans, which hold the arrays of the store: a worker that is not forked makes its own."""
        return {**self.__dict__, "_streams": {}, "_last": None}

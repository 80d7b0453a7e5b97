"""Sentences from all over a corpus, to train a vocabulary on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from bertlab.corpus.duplicate_search import Numbers
from bertlab.corpus.text_stage import read_text_shard, text_path


def sample_sentences(
    folder: Path, shards: int, dropped: Mapping[int, Numbers], characters: int
) -> Iterator[str]:
    """The sentences of shards that are evenly spread over all of them.

    Args:
        folder: of the text shards.
        shards: how many there are.
        dropped: of each shard that has duplicates, the numbers of the documents that are left out.
        characters: of the shards that are taken, about so many together.
    """
    total = sum(text_path(folder, shard).stat().st_size for shard in range(shards))
    wanted = max(1, min(shards, shards * characters // max(total, 1)))
    for shard in (number * shards // wanted for number in range(wanted)):
        left_out = set(map(int, dropped.get(shard, ())))
        for number, document in enumerate(read_text_shard(folder, shard)):
            if number not in left_out:
                yield from document

"""Everything between a `source:` and the checked, tagged, divided sentences of its splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import pyarrow as pa

from bertlab.data.conll import read_conll
from bertlab.data.division import add_missing_splits, warn_of_overlap, without_duplicates
from bertlab.data.readers import read_file
from bertlab.data.tables import Files, Split, load_splits
from bertlab.data.tag_labels import BrokenSpans, choose_tags, rarest, tag_ids, written_tags
from bertlab.data.word_rows import WordColumns, WordRows, read_sentences, without_empty_sentences
from bertlab.tags import Scheme

TABLES = (".jsonl", ".parquet")
CONLL = (".conll", ".txt", ".tsv", ".bio", ".iob", ".iob2", ".iobes")


@dataclass(frozen=True)
class WordSource:
    """What the data module's arguments of the same names say; see `TokenClassificationData`."""

    source: str | None
    files: Mapping[str, str] | None
    subset: str | None
    revision: str | None
    split_names: Mapping[str, str] | None
    columns: WordColumns
    conll_word: int
    conll_tag: int
    scheme: Scheme
    broken_spans: BrokenSpans
    fractions: Mapping[str, float]
    split_seed: int
    deduplicate: bool
    empty_sentences: Literal["error", "drop"]

    def load(self, label_names: tuple[str, ...] | None) -> tuple[dict[str, WordRows], tuple[str, ...]]:
        """Read, check, number the tags and divide.

        Args:
            label_names: the classes if they are known, else None.

        Returns:
            The sentences of each split, with classes of words as labels; and the classes.

        Raises:
            ValueError: whatever is wrong with the data, see the modules that check it.
        """
        kind = Files((*TABLES, *CONLL), partial(self._read, tag=self.conll_tag), "words")
        raw = load_splits(self.source, self.files, self.subset, self.revision, self.split_names, kind)
        drop = self.empty_sentences == "drop"
        splits = {name: read_sentences(split, self.columns, allow_empty=drop) for name, split in raw.items()}
        # Tags become numbers before sentences are divided: an error can name the line or row of the file.
        splits, label_names = self._with_labels(splits, label_names)
        if drop:
            splits = {name: without_empty_sentences(rows) for name, rows in splits.items()}
        if self.deduplicate:
            splits = without_duplicates(splits)
        else:
            warn_of_overlap(splits)
        return add_missing_splits(splits, self.fractions, rarest, self.split_seed), label_names

    def unlabelled(self, path: str) -> WordRows:
        """The sentences of a file to predict: the words alone, and none of them empty."""
        split = Split(self._read(Path(path).expanduser(), tag=None), path)
        return read_sentences(split, replace(self.columns, tags=None))

    def _read(self, path: Path, tag: int | None) -> pa.Table:
        """A table by its ending, else a CoNLL file."""
        if path.suffix in TABLES:
            return read_file(path)
        if path.is_file() and path.suffix not in CONLL:
            raise ValueError(
                f"{path}: format {path.suffix or '(none)'} is not read. Accepted: {', '.join((*TABLES, *CONLL))}."
            )
        return read_conll(path, self.conll_word, tag, (self.columns.words, self.columns.tags or "tags"))

    def _with_labels(
        self, splits: Mapping[str, WordRows], label_names: tuple[str, ...] | None
    ) -> tuple[dict[str, WordRows], tuple[str, ...]]:
        tags = {name: written_tags(rows, self.scheme, self.broken_spans) for name, rows in splits.items()}
        if "train" in splits:
            label_names = choose_tags(tags["train"], label_names, self.scheme, splits["train"].class_names)
        elif label_names is None:
            raise ValueError(
                "label_names: null, and there is no training split to take them from; give them."
            )
        ids = {name: tag_ids(tags[name], label_names, rows) for name, rows in splits.items()}
        return {name: replace(rows, labels=ids[name]) for name, rows in splits.items()}, label_names

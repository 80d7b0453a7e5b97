"""The build of a token store from text: stages over shards, each resumed where it was stopped."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from bertlab.corpus.atomic_files import write_json
from bertlab.corpus.build_progress import BuildProgress
from bertlab.corpus.duplicate_search import DuplicateSearch, Numbers
from bertlab.corpus.executors import BuildError, Executor, Local
from bertlab.corpus.raw_shards import raw_path, write_raw_shards
from bertlab.corpus.reader import Reader
from bertlab.corpus.report import write_report
from bertlab.corpus.sample import sample_sentences
from bertlab.corpus.settings import refuse_other_store
from bertlab.corpus.stage import Stage
from bertlab.corpus.steps import Splitter, TextCleaner, settings_of
from bertlab.corpus.store_writer import write_arrays, write_meta
from bertlab.corpus.summary import summarize
from bertlab.corpus.text_stage import TextStage, signatures_path
from bertlab.corpus.token_stage import TokenStage
from bertlab.corpus.token_store import SUMMARY, TOKENIZER, TokenStore
from bertlab.corpus.tokenizer_identity import fingerprint, identity_hash
from bertlab.corpus.vocabulary import TrainedVocabulary, Vocabulary, unknown_id

if TYPE_CHECKING:
    from tokenizers import Tokenizer

REVISION = 2  # raise when the same settings give other bytes
PARTS = 2  # raise when what stages leave for each other changes


@dataclass
class CorpusBuild:
    """Text → cleaned text → sentences → vocabulary → token store.

    The bytes of the store depend on the text and the settings alone, not on the executor. A build that was stopped in
    any way goes on where it was when the same command is given again; the store is there whole or not at all.

    Attributes:
        name: of the corpus.
        documents: where the text comes from, one after another.
        vocabulary: trained on the text, or a given one.
        cleaning: repairs and rejects documents; null: all stay as they are.
        sentences: divides text into sentences; null: each line is one.
        duplicates: leaves out documents that are there already; null: all stay.
        output: folder of the store; `{name}` stands for the name.
        executor: who does the work.
        shard_characters: characters of text that are worked on as one, and finished or not.
        document_characters: longer texts are divided into several documents, so that one of any length fits the memory;
            the store knows which are of one text.
        show_progress: a bar for each stage, where there is a terminal.

    Raises:
        ValueError: an argument is not accepted; the message names the YAML key.
    """

    name: str
    documents: list[Reader]
    vocabulary: Vocabulary = field(default_factory=TrainedVocabulary)
    cleaning: TextCleaner | None = None
    sentences: Splitter | None = None
    duplicates: DuplicateSearch | None = None
    output: str = "corpora/{name}"
    executor: Executor = field(default_factory=Local)
    shard_characters: int = 2_000_000
    document_characters: int = 1_000_000
    show_progress: bool = True

    def __post_init__(self) -> None:
        if not self.documents:
            raise ValueError("documents: the list is empty. Accepted: one or more readers.")
        if not self.name or "/" in self.name or self.name.startswith("."):
            raise ValueError(
                f"name: {self.name!r} is not accepted: the name of a folder, without / and leading dot."
            )
        if self.store.name in ("", ".."):
            raise ValueError(
                f"output: {self.output!r} is not accepted: a folder of the store's own, which the build makes, such as "
                "corpora/{name}."
            )
        for key in ("shard_characters", "document_characters"):
            if getattr(self, key) < 1000:
                raise ValueError(f"{key}: {getattr(self, key)} is not accepted: 1000 or more.")

    @property
    def store(self) -> Path:
        """Folder of the finished store."""
        return Path(self.output.replace("{name}", self.name)).expanduser()

    def settings(self) -> dict[str, Any]:
        """What the bytes of the store depend on, beside the text."""
        free = {"output", "executor", "show_progress"}
        return {key: value for key, value in settings_of(self)["init_args"].items() if key not in free}

    def run(self) -> tuple[TokenStore, bool]:
        """Build the store, unless it is there.

        Returns:
            The store, and whether it was built now.

        Raises:
            ValueError: the finished store is of other settings, text or vocabulary, or one of these cannot be read.
            BuildError: the build was stopped from outside, or another process builds the same store.
        """
        self.store.parent.mkdir(parents=True, exist_ok=True)
        try:
            with filelock.FileLock(self.store.with_name(f".{self.store.name}.lock"), timeout=0):
                # Absolute, for workers may be in other folders.
                work = self.store.absolute().with_name(f".{self.store.name}.part")
                if self.store.exists():
                    shutil.rmtree(work, ignore_errors=True)  # of a build that was stopped after its last step
                    refuse_other_store(self.store, self._plan())
                    return TokenStore.open(self.store), False
                self._build(work)
        except filelock.Timeout:
            raise BuildError(f"output: {self.store} is being built by another process.") from None
        return TokenStore.open(self.store), True

    def _plan(self) -> dict[str, Any]:
        sources = [item for reader in self.documents for item in reader.identity()]
        given = self.vocabulary.identity()
        return {"settings": self.settings(), "sources": sources, "vocabulary": given, "revision": REVISION}

    def _build(self, parts: Path) -> None:
        self.executor.check()
        plan = self._plan()
        # A folder for each plan: nothing of a build with other settings or on other text can get into this one, not
        # even from its jobs, if they still run somewhere.
        of_plan = json.dumps({**plan, "parts": PARTS}, sort_keys=True)
        work = parts / hashlib.sha256(of_plan.encode()).hexdigest()[:16]
        for other in parts.glob("*"):
            if other != work:
                shutil.rmtree(other, ignore_errors=True)
        work.mkdir(parents=True, exist_ok=True)
        # Before the first use of tokenizers' threads, which the vocabulary is trained by.
        os.environ.setdefault("RAYON_NUM_THREADS", str(self.executor.threads))
        with BuildProgress(self.show_progress) as progress:
            text, shards = self._text(work, progress)
            dropped, duplicates = self._duplicates(text, shards)
            self._vocabulary(work / TOKENIZER, text, shards, dropped, progress)
            tokens = self._tokens(work, shards, dropped, progress)
        self._finish(work, plan, text, tokens, shards, duplicates)

    def _text(self, work: Path, progress: BuildProgress) -> tuple[TextStage, int]:
        raw = work / "raw"
        trained = self.vocabulary.needs_text
        stage = TextStage(work / "text", raw, self.cleaning, self.sentences, self.duplicates, trained)
        limits = (self.shard_characters, self.document_characters)
        with progress.bar("Reading", None) as advance:
            shards = write_raw_shards(self.documents, raw, *limits, advance)
            # In this order: the raw text of a shard is deleted when the shard is finished, maybe just now by a job.
            if any(not raw_path(raw, n).exists() and not stage.is_finished(n) for n in range(shards)):
                shutil.rmtree(raw)  # the text of a shard was damaged after its raw text had been deleted
                write_raw_shards(self.documents, raw, *limits, advance)
        self._run(stage, shards, progress)
        return stage, shards

    def _run(self, stage: Stage, shards: int, progress: BuildProgress) -> None:
        stage.folder.mkdir(exist_ok=True)
        with progress.bar(stage.title, shards) as advance:
            missing = [shard for shard in range(shards) if not stage.is_finished(shard)]
            advance(shards - len(missing))
            self.executor.run(stage, missing, lambda: advance(1))
        lacking = [shard for shard in missing if not stage.is_finished(shard)]
        if lacking:
            raise BuildError(f"{stage.title}: shards {lacking} are not finished. Run the same command again.")

    def _duplicates(self, text: TextStage, shards: int) -> tuple[dict[int, Numbers], Counter[str]]:
        """Of each shard the documents to leave out, and how many there are of each kind."""
        if self.duplicates is None:
            return {}, Counter()
        signatures = (signatures_path(text.folder, shard).read_bytes() for shard in range(shards))
        return self.duplicates.drop(signatures, text.folder)

    def _vocabulary(
        self,
        folder: Path,
        text: TextStage,
        shards: int,
        dropped: dict[int, Numbers],
        progress: BuildProgress,
    ) -> None:
        if folder.exists():
            return
        alphabet: Counter[str] = Counter()
        for shard in range(shards):
            alphabet.update(text.numbers(shard)["alphabet"])
        sentences = functools.partial(sample_sentences, text.folder, shards, dropped)
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        with progress.bar("Vocabulary", None):
            self.vocabulary.make(part, alphabet, sentences)
        part.replace(folder)

    def _tokens(
        self, work: Path, shards: int, dropped: dict[int, Numbers], progress: BuildProgress
    ) -> TokenStage:
        tokenizer = _tokenizer(work)
        size = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())
        stage = TokenStage(
            work / "tokens",
            work / "text",
            dropped,
            work / TOKENIZER,
            size,
            "<u2" if size <= 1 << 16 else "<u4",
            unknown_id(work / TOKENIZER),
        )
        self._run(stage, shards, progress)
        return stage

    def _finish(
        self,
        work: Path,
        plan: dict[str, Any],
        text: TextStage,
        tokens: TokenStage,
        shards: int,
        duplicates: Counter[str],
    ) -> None:
        """Put the store together beside its place, and move it there."""
        store = work / "store"
        shutil.rmtree(store, ignore_errors=True)
        store.mkdir()
        paths = [tokens.folder / f"{shard:05d}" for shard in range(shards)]
        try:
            summary = summarize(self.name, text, tokens, shards, duplicates)
            divided = summary["read"]["further_parts"] > 0
            counts = write_arrays(store, paths, tokens.dtype, divided)
            shutil.copytree(work / TOKENIZER, store / TOKENIZER)
            write_json(store / SUMMARY, summary)
            write_report(store / "report.html", summary)
            facts = {
                "counts": {**counts, "words": summary["words"], "characters": summary["characters"]},
                "dtype": tokens.dtype,
                "vocabulary_size": tokens.vocabulary_size,
                "tokenizer_hash": identity_hash(fingerprint(_tokenizer(store))),
                **plan,
            }
            write_meta(store, facts)
        except OSError as error:
            raise BuildError(f"{error}. What is finished is kept: run the same command again.") from error
        store.replace(self.store)
        shutil.rmtree(work.parent, ignore_errors=True)  # what cannot be deleted now, the next run deletes


def _tokenizer(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / TOKENIZER / "tokenizer.json"))

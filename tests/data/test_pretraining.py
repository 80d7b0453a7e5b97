from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from torch import nn
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from bertlab.corpus.word_starts import word_starts
from bertlab.data.prefetch import ahead
from bertlab.data.pretraining import PretrainingData
from bertlab.interfaces import PretrainingBatch
from bertlab.samplers.phases import Phase, StepSchedule
from bertlab.samplers.step_parts import StepPartSampler
from tests.bits import assert_equal
from tests.corpus.corpus_text import corpus, document, write_config
from tests.corpus.small_corpus import write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_store(tmp_path_factory.mktemp("store") / "tiny", documents=40))


def make(store: str, **options: Any) -> PretrainingData:
    options = {"batch_size": 12, "phases": [Phase(64)], "validation_fraction": 0.1, "seed": 1} | options
    data = PretrainingData(store, **options)
    data.setup("fit")
    return data


def plain(batch: PretrainingBatch) -> dict[str, Any]:
    return {name: getattr(batch, name) for name in PretrainingBatch.__dataclass_fields__}


@pytest.mark.parametrize("task", ["next_sentence", "sentence_order", "none"])
@pytest.mark.parametrize("masking", ["token", "whole_word", "span"])
def test_batches(store: str, task: Any, masking: Any) -> None:
    data = make(store, sentence_task=task, masking=masking)
    cls, sep = data.tokenizer.cls_token_id, data.tokenizer.sep_token_id
    for batch in islice(data.train_dataloader(), 4):
        assert isinstance(batch, PretrainingBatch)
        assert (batch.lengths.diff() <= 0).all()
        assert batch.lengths.max() <= 64
        assert batch.input_ids.shape == batch.token_type_ids.shape == (int(batch.lengths.sum()),)
        assert (batch.step_sequences, batch.size, batch.micro_batches) == (12, 12, 1)
        assert batch.step_masked == len(batch.masked_positions) == len(batch.masked_labels)
        assert (batch.masked_positions.diff() > 0).all()
        whole = batch.input_ids.clone()
        whole[batch.masked_positions] = batch.masked_labels
        for ids, types in zip(
            whole.split(batch.lengths.tolist()),
            batch.token_type_ids.split(batch.lengths.tolist()),
            strict=True,
        ):
            ends = (ids == sep).nonzero().flatten().tolist()
            assert (ids[0], len(ends), ends[-1]) == (cls, 1 if task == "none" else 2, len(ids) - 1)
            assert types.tolist() == [0] * (ends[0] + 1) + [1] * (len(ids) - ends[0] - 1)
        if task == "none":
            assert batch.sentence_labels is None
        else:
            assert batch.sentence_labels is not None
            assert set(batch.sentence_labels.tolist()) <= {0, 1}
    assert data.has_sentence_task == (task != "none")


def test_texts_are_those_of_the_store(store: str) -> None:
    data = make(store, sentence_task="none")
    text = data.examples.store.tokens
    batch = next(iter(data.train_dataloader()))
    whole = batch.input_ids.clone()
    whole[batch.masked_positions] = batch.masked_labels
    joined = "," + ",".join(map(str, text.tolist())) + ","
    for ids in whole.split(batch.lengths.tolist()):
        assert "," + ",".join(map(str, ids[1:-1].tolist())) + "," in joined


def test_workers_and_threads_give_the_same_bits(store: str) -> None:
    batches = [
        [plain(batch) for batch in islice(make(store, num_workers=workers).train_dataloader(), 8)]
        for workers in (0, 2)
    ]
    assert_equal(batches[0], batches[1])


@pytest.mark.parametrize("masking", ["token", "whole_word"])
def test_ranks_and_micro_batches_share_a_step(store: str, masking: Any) -> None:
    data = make(store, masking=masking)
    examples, schedule = data.examples.training, StepSchedule([Phase(64)], [12], 9)
    found = {}
    for ranks, accumulated in [(1, 1), (1, 4), (2, 1), (2, 2), (3, 1)]:
        parts = []
        for rank in range(ranks):
            sampler = StepPartSampler(9, ranks, rank, accumulated)
            sampler.resume(schedule, 2, 3)
            parts += [examples[part] for part in sampler]
        assert len(parts) == ranks * accumulated
        assert {part.step_masked for part in parts} == {sum(len(part.masked_labels) for part in parts)}
        assert {(part.step_sequences, part.micro_batches) for part in parts} == {(12, ranks * accumulated)}
        tokens = [int(part.lengths.sum()) for part in parts]
        assert max(tokens) - min(tokens) <= 64
        sequences = {}
        for part in parts:
            ids = part.input_ids.split(part.lengths.tolist())
            sequences |= {n: row.tolist() for n, row in zip(part.index.tolist(), ids, strict=True)}
        found[ranks, accumulated] = sequences
    assert sorted(found[1, 1]) == list(range(24, 36))
    assert all(sequences == found[1, 1] for sequences in found.values())


def test_validation_is_fixed_and_exact(store: str) -> None:
    one = make(store, mask_rate=0.4, masking="whole_word")
    other = make(store, seed=99, batch_size=5)
    loaders = [data.val_dataloader() for data in (one, one, other)]
    batches = [[plain(batch) for batch in loader] for loader in loaders]
    assert_equal(batches[0], batches[1])
    assert_equal(batches[0], batches[2])
    lengths = torch.cat([batch["lengths"] for batch in batches[0]])
    masked = sum(len(batch["masked_labels"]) for batch in batches[0])
    assert masked == sum(max(1, round(0.15 * n)) for n in lengths.tolist())
    assert len(lengths) == len(one.examples.validation)
    held = set(one.examples.documents["validation"].tolist())
    assert len(held) == 4
    assert not held & set(one.examples.documents["train"].tolist())
    examples = one.examples.validation.examples
    sentence = np.searchsorted(one.examples.store.sentence_starts, examples.starts, side="right") - 1
    documents = np.searchsorted(one.examples.store.document_starts, sentence, side="right") - 1
    assert set(documents.flatten().tolist()) <= held, "random segments too"
    tokens, words = one.tokens_and_words("validation")
    ids = [
        np.s_[a:b]
        for d in sorted(held)
        for a, b in [one.examples.store.sentence_starts[one.examples.store.document_starts[[d, d + 1]]]]
    ]
    pieces = [
        p
        for part in ids
        for p in one.tokenizer.convert_ids_to_tokens(one.examples.store.tokens[part].tolist())
    ]
    assert (tokens, words) == (len(pieces), sum(not piece.startswith("##") for piece in pieces))
    limited = make(store, max_validation_examples=7)
    assert len(limited.examples.validation) == 7
    assert make(store, validation_fraction=0.0).val_dataloader() == []
    sizes = [DataLoader.__len__(loader) for loader in loaders]
    assert sizes[0] == sizes[2]


def test_validation_masks_whole_words_where_it_is_told_to(store: str) -> None:
    """As many pieces, and none that is masked has a neighbour of its word that is not."""
    shares = []
    for masking in ("token", "whole_word"):
        data = make(store, sentence_task="none", validation_masking=masking)
        first = word_starts(data.tokenizer, data.vocabulary_size)
        torn = masked = 0
        for batch in data.val_dataloader():
            ids, chosen = batch.input_ids.clone(), torch.zeros_like(batch.input_ids, dtype=torch.bool)
            ids[batch.masked_positions], chosen[batch.masked_positions] = batch.masked_labels, True
            framed = torch.tensor([data.tokenizer.cls_token_id, data.tokenizer.sep_token_id])
            goes_on = ~torch.from_numpy(first)[ids[1:]] & ~torch.isin(ids[:-1], framed)
            torn += int((goes_on & (chosen[1:] != chosen[:-1])).sum())
            masked += int(chosen.sum())
        shares.append((torn > 0, masked / sum(int(b.lengths.sum()) for b in data.val_dataloader())))
    assert [torn for torn, _ in shares] == [True, False]
    assert shares[1][1] == pytest.approx(shares[0][1], abs=0.03)
    with pytest.raises(ValueError, match=r"validation_masking.*span"):
        make(store, validation_masking="span")


def test_words_are_counted_alike_for_any_vocabulary(tmp_path: Path) -> None:
    """Pieces of bytes do not tell words, and a WordPiece makes several pieces of what is one: both are of the text."""
    texts = [
        [f"{sentence}  Isn't 3.5% {number}?", "北京 🙂 ok."]
        for number in range(40)
        for sentence in document(number)
    ]
    (tmp_path / "text.txt").write_text("\n\n".join(map("\n".join, texts)) + "\n")
    special = {"unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([], vocab_size=300, special_tokens=[*special.values(), "<pad>"])
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(trained.to_str()), pad_token="<pad>", **special
    ).save_pretrained(tmp_path / "bpe")
    vocabulary = {
        "class_path": "bertlab.corpus.vocabulary.GivenVocabulary",
        "init_args": {"source": str(tmp_path / "bpe")},
    }
    corpus(write_config(tmp_path, name="pieces"))
    corpus(write_config(tmp_path, name="bytes", vocabulary=vocabulary))
    pieces, of_bytes = (make(str(tmp_path / name)) for name in ("pieces", "bytes"))
    for split in ("train", "validation"):
        documents = pieces.examples.documents[split].tolist()
        # Of the Chinese each character is one.
        spaced = (s.replace("北京", "北 京") for number in documents for s in texts[number])
        words = sum(len(sentence.split()) for sentence in spaced)
        counts = [data.tokens_and_words(split) for data in (pieces, of_bytes)]
        assert [found for _, found in counts] == [words, words]
        assert counts[0][0] != counts[1][0]


def test_phases_change_lengths_and_sizes(store: str) -> None:
    phases = [Phase(32, 0.6), Phase(64, 0.4)]
    data = make(store, phases=phases, batch_tokens=320, batch_warmup_fraction=0.2, batch_warmup_start=2)
    batches = list(data.train_dataloader())
    sizes = [batch.size for batch in batches]
    changed = round(0.6 * len(batches))
    assert sizes[0] == 2
    assert set(sizes[round(0.2 * len(sizes)) : changed]) == {10}
    assert set(sizes[changed:]) == {5}
    assert max(int(batch.lengths.max()) for batch in batches[:changed]) == 32
    assert max(int(batch.lengths.max()) for batch in batches[changed:]) == 64
    assert len(batches) == data.steps_per_epoch == round(data.examples_per_epoch / 10)
    assert torch.cat([batch.index.sort().values for batch in batches]).tolist() == list(range(sum(sizes)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sentence_task": "nsp"},
            "sentence_task: 'nsp' is not accepted. Accepted: one of none, next_sentence",
        ),
        ({"masking": "words"}, "masking: 'words' is not accepted. Accepted: one of token, whole_word, span"),
        ({"mask_rate": 0.0}, r"mask_rate: 0.0 is not accepted. Accepted: a share in \(0, 1\)"),
        ({"mask_share": 0.9, "random_share": 0.2}, r"random_share: 0.2 .* 0 to 1 − mask_share = 0.1"),
        ({"batch_size": None}, "batch_size and batch_tokens are both null"),
        ({"batch_size": 0}, "batch_size: 0 is not accepted"),
        ({"evaluation_max_tokens": 50}, "evaluation_max_tokens: 50 .* at least validation_length, 64 tokens"),
        ({"phases": [Phase(64, 0.5)]}, "the fractions add up to 0.5"),
        ({"validation_fraction": 0.99}, "has 40 documents, of which 40 would be held out"),
    ],
)
def test_arguments_that_make_no_training(store: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(store, **options)


def test_stores_that_cannot_be_used(tmp_path: Path, store: str) -> None:
    with pytest.raises(ValueError, match=r"data\.init_args\.store: .*nowhere: no such token store"):
        make(str(tmp_path / "nowhere"))
    damaged = write_store(tmp_path / "damaged", documents=6)
    with (damaged / "tokens.bin").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"data\.init_args\.store: .*tokens\.bin.*damaged"):
        make(str(damaged))
    alone = str(write_store(tmp_path / "alone", documents=1))
    with pytest.raises(ValueError, match=r"has 1 documents, .* sentence_order or none"):
        make(alone)
    assert make(alone, sentence_task="none", validation_fraction=0.0).examples_per_epoch > 0


def test_lengths_beyond_the_positions_of_the_encoder(store: str) -> None:
    class Encoder(nn.Module):
        max_length = 48

    class Task(nn.Module):
        encoder = Encoder()

    class Trainer:
        lightning_module = Task()
        overfit_batches, callbacks, accumulate_grad_batches = 0, (), 1

    data = PretrainingData(store, phases=[Phase(32, 0.5), Phase(64, 0.5)])
    data.trainer = Trainer()  # type: ignore[assignment]
    with pytest.raises(
        ValueError, match=r"init_args\.phases: a length of 64 tokens is more than the 48 positions"
    ):
        data.setup("fit")


def test_batches_ahead() -> None:
    def numbers() -> Any:
        yield from range(5)
        raise OSError("the disk is gone")

    made = ahead(numbers(), 2)
    assert [next(made) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(OSError, match="the disk is gone"):
        next(made)
    assert list(ahead(iter([1, 2, 3]), 1)) == [1, 2, 3]
    many = ahead(iter(range(10**6)), 3)
    assert next(many) == 0
    many.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("task", ["sentence_order", "none"])
def test_documents_of_one_sentence_have_no_next_one(task: str, tmp_path: Path) -> None:
    lines = [f"a small sentence of number {number} ." for number in range(20)]
    (tmp_path / "text.txt").write_text("\n\n".join(lines))
    corpus(write_config(tmp_path))
    alone = str(tmp_path / "small")
    with pytest.raises(
        ValueError, match=r"next_sentence: all 18 training documents of .*small have one sentence"
    ):
        make(alone)
    assert next(iter(make(alone, sentence_task=task).train_dataloader())).step_sequences == 12


@pytest.mark.parametrize(
    ("pairs", "warned"), [(9, ["next_sentence: 55% of the training documents"]), (10, [])]
)
def test_a_warning_where_most_documents_are_of_one_sentence(
    pairs: int, warned: list[str], tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    lines = [
        f"a small sentence of number {number} ." + "\nand one more ." * (number < pairs)
        for number in range(20)
    ]
    (tmp_path / "text.txt").write_text("\n\n".join(lines))
    corpus(write_config(tmp_path))
    make(str(tmp_path / "small"), validation_fraction=0.0)
    found = [str(warning.message) for warning in recwarn if "next_sentence" in str(warning.message)]
    assert len(found) == len(warned)
    assert all(expected in message for expected, message in zip(warned, found, strict=True))

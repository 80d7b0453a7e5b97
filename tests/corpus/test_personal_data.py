from __future__ import annotations

import pickle
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.corpus.personal_data import KINDS, PersonalData

EVERYTHING = PersonalData(phone_regions=["US", "GB"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to ann.lee+news@mail.example.co.uk.", "Write to email."),
        ("mailto:jörg@müller.de, or <x_y@z.org>", "mailto:email, or <email>"),
        ("Pay to DE89 3704 0044 0532 0130 00 BIC", "Pay to iban BIC"),
        ("GB82WEST12345698765432 is ours", "iban is ours"),
        ("Visa 4111 1111 1111 1111, Amex 3782-822463-10005.", "Visa card, Amex card."),
        ("Card 5500005555555559!", "Card card!"),
        ("a@b.org@c.org", "a@email"),
        ("from 8.8.8.8. Then 2001:4860:4860::8888", "from ip. Then ip"),
        ("Call (212) 555-0175 or 212.736.5000 ext. 5", "Call phone or phone"),
        ("Ring +44 20 7946 0018 or 020 7946 0018.", "Ring phone or phone."),
        ("+49 30 901820, +33 1 42 68 53 00 and 1-800-273-8255", "phone, phone and phone"),
    ],
)
def test_what_is_replaced(text: str, expected: str) -> None:
    assert EVERYTHING(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "In 1997-1998 and 2015/16, on 12/05/2017 at 10:30:45, or 2017-03-14 08:00.",
        "It cost $1,234,567.89, up 3.25% from 1.200.000 euros; 7594130000 people; 2125551234 units.",
        "They won 3-2, 21-19, 6-4 6-3 7-5; the vote was 50-50; 1-2-3-4-5-6-7.",
        "Card 4111 1111 1111 1112 is wrong by a digit; years 2012 2013 2014 2015 2016.",
        "ISBN 978-3-16-148410-0, ISSN 1234-5679, DOI 10.5281/zenodo.2591652, arXiv:2107.06499.",
        "DE89 3704 0044 0532 0130 01 has bad check digits.",
        "The router 192.168.0.1, localhost 127.0.0.1, section 1.2.3, 1.2.3.4.5, 256.1.1.1, std::vector.",
        "Follow @reuters, or c@t and a@b; MAC 00:1b:44:11:3a:b7, Gen 1:1:2, ratio 16:9.",
        "ZIP 90210-1234, room 101, flight MH370, A380-800, 1080p, 5,000-6,000 m.",
    ],
)
def test_what_stays(text: str) -> None:
    assert EVERYTHING.replace(text).found == []
    assert EVERYTHING(text) == text


def test_a_kind_alone_leaves_the_others() -> None:
    text = "ann@example.org, 8.8.8.8, +1 212 736 5000"
    assert PersonalData(["ip"])(text) == "ann@example.org, ip, +1 212 736 5000"
    assert PersonalData(["phone"], phone_regions=[])(text) == "ann@example.org, 8.8.8.8, phone"
    assert PersonalData(["phone"], phone_regions=[])("212-736-5000") == "212-736-5000"
    found = PersonalData(placeholders={"email": "<mail>"}).replace(text)
    assert found.text == "<mail>, ip, phone"
    assert found.found == [("email", "ann@example.org"), ("ip", "8.8.8.8"), ("phone", "+1 212 736 5000")]


PIECES = [
    "a@b.org",
    "@",
    "8.8.8.8",
    "2001:4860:4860::8888",
    "4111 1111 1111 1111",
    "+1 212 736 5000",
    "ext. 5",
]
PIECES += [
    "DE89 3704 0044 0532 0130 00",
    "212-736-5000",
    " ",
    ", ",
    "/",
    "-",
    "1",
    "x",
    "+",
    "(",
    ":",
    ".",
    "é",
    "٣",
]


@given(text=st.one_of(st.text(st.characters(codec=None)), st.lists(st.sampled_from(PIECES)).map("".join)))
@settings(max_examples=300, deadline=None)
def test_any_text(text: str) -> None:
    once = EVERYTHING.replace(text)
    assert len(once.text) <= len(text)
    assert pickle.loads(pickle.dumps(EVERYTHING)).replace(text) == once
    assert (once.text == text) == (not once.found)
    assert EVERYTHING.replace(once.text) == (once.text, [])


@pytest.mark.parametrize(
    "unit", ["a", "1", "12 ", "1-", "a@", "a:", "1.", "AB12 ", "(555) ", "a.b-", "+1 212 ", "4111 1111 "]
)
def test_a_long_line_takes_seconds(unit: str) -> None:
    began = time.process_time()
    EVERYTHING(unit * (300_000 // len(unit)))
    assert time.process_time() - began < 20


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match=f"kinds: 'name' is not one of {', '.join(KINDS)}"):
        PersonalData(["name"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="phone_regions: 'usa' is not an ISO 3166 code"):
        PersonalData(phone_regions=["usa"])
    with pytest.raises(ValueError, match="placeholders: 'mail'"):
        PersonalData(placeholders={"mail": "x"})  # type: ignore[dict-item]

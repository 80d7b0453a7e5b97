"""Take personal data out of a text, as far as its form gives it away."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Literal, NamedTuple

EXTRA = "bertlab[corpus]"

Kind = Literal["email", "iban", "card", "ip", "phone"]
# In this order they are looked for: a card number could hold what looks like a phone number.
KINDS: tuple[Kind, ...] = ("email", "iban", "card", "ip", "phone")
_LIBRARIES: dict[Kind, tuple[str, str]] = {
    "iban": ("stdnum", "python-stdnum"),
    "card": ("stdnum", "python-stdnum"),
    "phone": ("phonenumbers", "phonenumbers"),
}

# Every pattern begins after something that cannot belong to it, so that a long line is read once.
_EMAIL = re.compile(
    r"(?<![\w.!#$%&'*+/=?^`{|}~-])[\w.!#$%&'*+/=?^`{|}~-]{1,64}"
    r"@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![\w@-])"
)
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_LETTER_NUMBERS = {ord("A") + number: str(10 + number) for number in range(26)}
_CARD = re.compile(
    r"(?<![\w.,+-])(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|\d{4}([ -])\d{6}\2\d{4,5})(?![\w-]|[.,]\d)"
)
# Lengths and first digits that issuers use (ISO/IEC 7812): Visa, Mastercard, American Express, Discover, JCB, Diners,
# UnionPay. Of all numbers one in ten passes Luhn's check; the prefix keeps out most of these.
_ISSUER = re.compile(
    r"4\d{12}(\d{3}){0,2}|(5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}"
    r"|(6011|65\d\d|64[4-9]\d)\d{12}|35\d{14}|3[068]\d{12}|62\d{14,17}"
)
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\.?\w)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{1,4}:[0-9A-Fa-f:]{2,34}(?![\w:])")
_IPV6_IN_USE = ipaddress.ip_network("2000::/3")
# Digits with little but signs between them, of which a longer run is a table: the matcher is shown these alone, each
# with a little context, for it is slow, and gives up where there are many.
_DIGITS = re.compile(r"\d(?:[^\w\n]{0,4}+\d){6,}+")
_MAX_DIGITS = 60
_CONTEXT_BEFORE, _CONTEXT_AFTER = 8, 20
# What is replaced can uncover what stands beside it; a placeholder that has itself a form looked for never settles.
_MAX_ROUNDS = 4


class Replaced(NamedTuple):
    """A text without the personal data found in it.

    Attributes:
        text: with a placeholder in place of each.
        found: what was replaced, as (kind, original); kind by kind, and in the order of the text.
    """

    text: str
    found: list[tuple[Kind, str]]


class PersonalData:
    """Replace e-mail addresses, IBANs, payment card numbers, public IP addresses and phone numbers.

    Only what has a checkable form is found. **Names, postal addresses, dates of birth, user names and identity
    numbers are not**: they need a language-dependent model, and stay in the text. What is looked for, and how:

    - `email`: by form (the pattern of datatrove's `PIIFormatter`, with letters of any script).
    - `iban`: by form, ISO 13616 check digits and length of the country (`python-stdnum`).
    - `card`: 13 to 19 digits, together or in the groups printed on cards, with an issuer's prefix and length, and
      Luhn-valid (`python-stdnum`).
    - `ip`: IPv4 and IPv6, only where globally routed, as in datatrove. A version number of four parts, such as
      1.2.3.4, has the same form and is replaced too.
    - `phone`: `phonenumbers` (Google's libphonenumber), which knows what numbers are in use in each country: those
      with a country code after a plus sign, and those that are dialled within `phone_regions`, unless these are
      digits without a separator, which might be any number. More than 60 digits in a row are a table, and stay.

    Years, dates, prices, scores and sums stay; what is replaced in real news is listed in
    experiments/corpus_cleaning. Chosen before Presidio (it needs spaCy for its patterns too) and DataFog (takes
    dates for dates of birth). Replacing a second time changes nothing, unless a placeholder is given that itself has
    one of these forms. Deterministic and picklable.

    Args:
        kinds: what is replaced.
        phone_regions: ISO 3166 codes of the countries whose national numbers are recognised; may be empty.
        placeholders: words that take the place of what is found; the default is the kind, a plain word that is no
            longer than what it replaces, and one piece in most vocabularies.

    Raises:
        ValueError: an unknown kind or region.
        ModuleNotFoundError: a library that a chosen kind needs is missing.

    >>> PersonalData(kinds=["email"])("Write to ann.lee@example.org.")
    'Write to email.'
    """

    def __init__(
        self,
        kinds: Sequence[Kind] = KINDS,
        phone_regions: Sequence[str] = ("US",),
        placeholders: Mapping[Kind, str] | None = None,
    ) -> None:
        for name, given in (("kinds", kinds), ("placeholders", placeholders or {})):
            if unknown := sorted(set(given) - set(KINDS)):
                raise ValueError(f"{name}: {unknown[0]!r} is not one of {', '.join(KINDS)}.")
        self.kinds: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind in kinds)
        self.phone_regions = tuple(phone_regions)
        self.placeholders = dict[Kind, str](zip(KINDS, KINDS, strict=True)) | dict(placeholders or {})
        for kind in self.kinds:
            _require(kind)
        if "phone" in self.kinds:
            _check_regions(self.phone_regions)

    def __call__(self, text: str) -> str:
        """`text` with placeholders."""
        return self.replace(text).text

    def replace(self, text: str) -> Replaced:
        """`text` with placeholders, and what they stand for."""
        found: list[tuple[Kind, str]] = []
        for _ in range(_MAX_ROUNDS):
            text, more = self._replace_once(text)
            found += more
            if not more:
                break
        return Replaced(text, found)

    def _replace_once(self, text: str) -> Replaced:
        found: list[tuple[Kind, str]] = []
        for kind in self.kinds:
            pieces: list[str] = []
            done = 0
            for start, end in self._spans(kind, text):
                found.append((kind, text[start:end]))
                pieces += [text[done:start], self.placeholders[kind]]
                done = end
            if done:
                text = "".join([*pieces, text[done:]])
        return Replaced(text, found)

    def _spans(self, kind: Kind, text: str) -> Iterator[tuple[int, int]]:
        match kind:
            case "email":
                return _emails(text)
            case "iban":
                return _ibans(text)
            case "card":
                return _cards(text)
            case "ip":
                return _ip_addresses(text)
            case "phone":
                return _phones(text, self.phone_regions)


def _require(kind: Kind) -> None:
    module, package = _LIBRARIES.get(kind, ("", ""))
    if module and find_spec(module) is None:
        raise ModuleNotFoundError(
            f"kinds: {kind} needs {package}, which is not installed: pip install '{EXTRA}'."
        )


def _check_regions(regions: Sequence[str]) -> None:
    from phonenumbers import SUPPORTED_REGIONS

    for region in regions:
        if region not in SUPPORTED_REGIONS:
            raise ValueError(f"phone_regions: {region!r} is not an ISO 3166 code such as US, GB or DE.")


def _emails(text: str) -> Iterator[tuple[int, int]]:
    if "@" in text:
        yield from (match.span() for match in _EMAIL.finditer(text))


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    from stdnum import iban

    for match in _IBAN.finditer(text):
        # A word in capitals after it looks like its last group.
        candidate = match[0]
        while candidate and not (
            _has_check_digits(candidate) and iban.is_valid(candidate, check_country=False)
        ):
            candidate = candidate.rpartition(" ")[0]
        if candidate:
            yield match.start(), match.start() + len(candidate)


def _has_check_digits(candidate: str) -> bool:
    """Whether the remainder by ISO 7064 is 1: the library asks it too, but many times slower."""
    compact = candidate.replace(" ", "")
    return int((compact[4:] + compact[:4]).translate(_LETTER_NUMBERS)) % 97 == 1


def _cards(text: str) -> Iterator[tuple[int, int]]:
    from stdnum import luhn

    for match in _CARD.finditer(text):
        digits = re.sub(r"[ -]", "", match[0])
        if digits.isascii() and _ISSUER.fullmatch(digits) and luhn.is_valid(digits):
            yield match.span()


def _ip_addresses(text: str) -> Iterator[tuple[int, int]]:
    for match in sorted([*_IPV4.finditer(text), *_IPV6.finditer(text)], key=lambda match: match.start()):
        try:
            address = ipaddress.ip_address(match[0])
        except ValueError:
            continue
        if address.is_global and (address.version == 4 or address in _IPV6_IN_USE):
            yield match.span()


def _phones(text: str, regions: Sequence[str]) -> Iterator[tuple[int, int]]:
    runs = [match.span() for match in _DIGITS.finditer(text)]
    for at, (start, end) in enumerate(runs):
        if sum(map(str.isdigit, text[start:end])) <= _MAX_DIGITS:
            first = max(start - _CONTEXT_BEFORE, runs[at - 1][1] if at else 0)
            last = min(end + _CONTEXT_AFTER, runs[at + 1][0] if at + 1 < len(runs) else len(text))
            for begin, stop in _phones_between(text[first:last], regions):
                yield first + begin, first + stop


def _phones_between(snippet: str, regions: Sequence[str]) -> list[tuple[int, int]]:
    from phonenumbers import PhoneNumberMatcher

    spans = [
        (match.start, match.end)
        for region in regions or (None,)
        for match in PhoneNumberMatcher(snippet, region)
        if not match.raw_string.isdigit()
    ]
    return _disjoint(spans)


def _disjoint(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order; of those that overlap (two regions know the same number) one that covers them."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged

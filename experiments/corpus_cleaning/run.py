"""Libraries for the cleaning of text against each other, on packaged news: speed, and what each finds."""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from bertlab.corpus import packaged_prose
from bertlab.corpus.cleaning import Cleaner, Rejection
from bertlab.corpus.duplicates import Deduplicator
from bertlab.corpus.language import LanguageIdentifier
from bertlab.corpus.personal_data import PersonalData
from bertlab.corpus.sentences import SentenceSplitter
from bertlab.sources.packaged import fetch

CASES = [
    ("en", ["Dr. Smith met U.S. President Obama at 3 p.m. yesterday.", "They spoke for 2.5 hours."]),
    ("en", ['"I don\'t know," he said.', '"It was J. K. Rowling\'s book!"', "She left."]),
    ("en", ["It rose 3.2 percent to $4.50 a share.", "Apple Inc. said on Jan. 5 that it would sell."]),
    ("en", ["He lives in Washington, D.C.", "It is cold there."]),
    ("en", ["Is it true?!", "Yes... it is.", "Visit www.bbc.co.uk for more."]),
    ("en", ["(He was late.)", "She was not."]),
    ("en", ["He works for Acme Corp. and Foo Ltd.", "Then he quit."]),
    ("en", ["See Fig. 3 and pp. 12-14.", "No. 5 is best."]),
    ("en", ["Sen. John McCain, R-Ariz., voted no.", "Gov. Brown agreed."]),
    ("en", ["the end came.", "then nothing happened.", "it was over."]),
    ("zh", ["我爱北京。", "天安门很大!", "你呢?"]),
    ("ja", ["私は学生です。", "あなたは?"]),
    ("de", ["Am 3. Oktober kam z.B. Dr. Müller.", "Er blieb."]),
]


def news() -> list[str]:
    """The texts of the articles, in order."""
    return list(packaged_prose.news(fetch("news")))


def splitters() -> dict[str, Callable[[str, str], list[str]]]:
    """Text and language to sentences, of the libraries that are installed."""
    found: dict[str, Callable[[str, str], list[str]]] = {
        "bertlab": lambda text, language: SentenceSplitter(language).split(text)
    }
    modules: dict[str, Callable[[Any], Callable[[str, str], list[str]]]] = {
        "sentencex": lambda m: lambda text, language: m.segment(language, text),
        "blingfire": lambda m: lambda text, _: m.text_to_sentences(text).split("\n"),
        "nupunkt": lambda m: lambda text, _: m.sent_tokenize(text),
        "pysbd": lambda m: lambda text, lang: m.Segmenter(language=lang, clean=False).segment(text),
    }
    for name, make in modules.items():
        if importlib.util.find_spec(name):
            found[name] = make(importlib.import_module(name))
    return found


def rate(texts: list[str], call: Callable[[str], Any]) -> tuple[float, list[Any]]:
    """Megabytes of UTF-8 a second of processor time, and the results; the first call is not timed."""
    call(texts[0])
    began = time.process_time()
    results = [call(text) for text in texts]
    return sum(len(text.encode()) for text in texts) / 1e6 / (time.process_time() - began), results


def compare_splitters(texts: list[str]) -> None:
    print("| splitter | MB/s | sentences of 400 articles | hard cases right |\n|---|---|---|---|")
    for name, split in splitters().items():
        few = texts[:20] if name == "pysbd" else texts[:400]
        speed, parts = rate(few, lambda text, split=split: split(text, "en"))
        right = 0
        for language, expected in CASES:
            joint = "" if language in ("zh", "ja") else " "
            right += [part.strip() for part in split(joint.join(expected), language)] == expected
        count = sum(map(len, parts)) if len(few) == 400 else "–"
        print(f"| {name} | {speed:.2f} | {count} | {right} of {len(CASES)} |", flush=True)


def measure_pieces(texts: list[str]) -> None:
    print("\n| piece | MB/s | what it did |\n|---|---|---|")
    speed, cleaned = rate(texts, Cleaner(min_words=20))
    reasons = Counter(text.value for text in cleaned if isinstance(text, Rejection))
    print(f"| Cleaner(min_words=20) | {speed:.2f} | {dict(reasons)} of {len(texts)} |", flush=True)
    kept = [text for text in cleaned if isinstance(text, str)]
    speed, languages = rate(kept, LanguageIdentifier())
    print(
        f"| LanguageIdentifier | {speed:.2f} | {dict(Counter(found.code for found in languages))} |",
        flush=True,
    )
    speed, replaced = rate(kept, PersonalData().replace)
    found = [one for text in replaced for one in text.found]
    print(f"| PersonalData | {speed:.2f} | {dict(Counter(kind for kind, _ in found))} |", flush=True)
    speed, parts = rate(kept, SentenceSplitter().split)
    print(f"| SentenceSplitter | {speed:.2f} | {sum(map(len, parts))} sentences |", flush=True)
    with Deduplicator() as deduplicator:
        speed, signatures = rate(kept, deduplicator.signature)
        for index, signature in enumerate(signatures):
            deduplicator.add(index, signature)
        began = time.process_time()
        decided = deduplicator.decide()
        seconds = time.process_time() - began
    counts = f"{decided.exact} exact, {decided.near} near; decided in {seconds:.2f} s"
    print(f"| signature, Deduplicator | {speed:.2f} | {counts} |\n")
    print("Phone numbers replaced:", ", ".join(original for kind, original in found if kind != "email"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--articles", type=int, help="only the first ones")
    texts = news()[: parser.parse_args().articles]
    compare_splitters(texts)
    measure_pieces(texts)


if __name__ == "__main__":
    main()

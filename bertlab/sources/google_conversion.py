"""From a folder in Google's layout to one that transformers loads."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

from bertlab.sources.cache import build_once, cache_folder

log = logging.getLogger(__name__)

FORMAT = 1  # raise when what is written changes
READ = ("bert_config.json", "vocab.txt", "tokenizer_config.json")


def is_google_folder(folder: str | Path) -> bool:
    """Whether a folder holds a checkpoint in Google's layout and none in that of transformers.

    Raises:
        ValueError: there is a checkpoint of TensorFlow, but no bert_config.json beside it.
    """
    folder = Path(folder)
    if (folder / "config.json").exists():
        return False
    if any(folder.glob("*ckpt*.index")) and not (folder / READ[0]).is_file():
        raise ValueError(
            f"{folder}: a TensorFlow checkpoint without {READ[0]}, which says what model it is of"
        )
    return (folder / READ[0]).is_file()


def convert_google_checkpoint(source: str | Path, folder: str | Path) -> None:
    """Write a checkpoint of Google's as a Hugging Face folder: config.json, model.safetensors, the tokenizer.

    `BertForPreTraining.from_pretrained(folder)` has nothing missing (but a head that the checkpoint lacks), and
    `AutoTokenizer.from_pretrained(folder)` gives a fast tokenizer. Stored are float32 weights, the tied ones once.

    Args:
        source: folder with bert_model.ckpt.*, bert_config.json and vocab.txt.
        folder: an empty or new folder, which is filled.

    Raises:
        FileNotFoundError: a file of the source is missing.
        FileExistsError: `folder` is not empty.
        ValueError: a file of the source is damaged, or they do not fit one another.
    """
    from safetensors.torch import save_file
    from transformers import BertTokenizer

    from bertlab.sources.google_checkpoint import DECODER, read_google_checkpoint
    from bertlab.sources.google_vocabulary import VOCABULARY, lowers_case, read_vocabulary

    source, folder = Path(source), Path(folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder}: not empty; name a new folder for the converted model")
    config, weights = read_google_checkpoint(source)
    pieces = read_vocabulary(source, config.vocab_size)
    lowers = lowers_case(source, pieces)
    config.pad_token_id = pieces.index("[PAD]")
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / VOCABULARY
    vocabulary.write_text("\n".join(pieces) + "\n", encoding="utf-8", newline="")
    tokenizer: Any = BertTokenizer(
        vocab=str(vocabulary), do_lower_case=lowers, model_max_length=config.max_position_embeddings
    )
    tokenizer.save_pretrained(folder)
    config.save_pretrained(folder)
    stored = {name: value for name, value in weights.items() if not name.startswith(DECODER)}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    log.info(
        "Converted %s: %d weights, %d word pieces, %s", source, len(stored), len(pieces),
        "lowercased" if lowers else "cased",
    )  # fmt: skip


def converted_folder(source: Path) -> Path:
    """The Hugging Face folder of a Google checkpoint, made once and kept in the cache folder.

    It is known by the content of the source's small files; the index among them holds a checksum of every tensor.

    Args:
        source: folder in Google's layout.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or they do not fit one another.
    """
    digest = hashlib.sha256(f"{FORMAT} {source.resolve().name}".encode())
    for path in sorted([*source.glob("*.index"), *(source / name for name in READ)]):
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{path.name} {len(content)} ".encode() + content)
    target = cache_folder() / "google" / digest.hexdigest()[:24]
    return build_once(target, lambda folder: convert_google_checkpoint(source, folder))

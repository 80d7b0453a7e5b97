"""The weights of a checkpoint that are not the encoder's: those of the head it was trained with."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils.hub import cached_file

WHOLE, SHARDED = "model.safetensors", "model.safetensors.index.json"


def head_weights(where: str, revision: str | None, model: PreTrainedModel) -> dict[str, Tensor]:
    """Read what a checkpoint holds beside the encoder.

    Args:
        where: a folder or a hub id, whose encoder has been loaded.
        revision: branch, tag or commit of a hub id.
        model: the encoder.

    Returns:
        Tensors in float32 under the names that transformers gives them now: `gamma` and `beta` of old
        checkpoints are `weight` and `bias`. None where the checkpoint is an encoder alone.

    Raises:
        OSError: the files cannot be read.
    """
    prefix = f"{model.base_model_prefix}."
    own = {*model.state_dict(), "embeddings.position_ids", "embeddings.token_type_ids"}
    found: dict[str, Tensor] = {}
    for file in _files(where, revision):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (the file is no mapping)
                if not name.startswith(prefix) and _today(name) not in own and not name.startswith("pooler."):
                    found[_today(name)] = tensors.get_tensor(name).float()
    return found


def _today(name: str) -> str:
    """The name that transformers gives a weight now."""
    return name.replace(".gamma", ".weight").replace(".beta", ".bias")


def _files(where: str, revision: str | None) -> list[str]:
    whole = cached_file(where, WHOLE, revision=revision, _raise_exceptions_for_missing_entries=False)
    if whole is not None:
        return [whole]
    index = cached_file(where, SHARDED, revision=revision)
    assert index is not None  # else it raises
    shards = sorted(set(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values()))
    files = [cached_file(where, shard, revision=revision) for shard in shards]
    return [file for file in files if file is not None]

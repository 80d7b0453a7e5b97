"""A model of transformers run on padded tensors: what packed tokens become where it does not take them."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from bertlab.encoders.packing import Packing


def run_padded(
    model: PreTrainedModel, input_ids: Tensor, token_type_ids: Tensor | None, packing: Packing
) -> Tensor:
    """Run a model on packed tokens, each sequence in a row of its own.

    Args:
        model: as transformers has it.
        input_ids: (N,).
        token_type_ids: (N,); None: the model takes none.
        packing: of the batch.

    Returns:
        (N, D) last hidden states of the tokens, packed again.
    """
    device = packing.positions.device
    places = (packing.rows, packing.positions)
    shape = (len(packing.starts), packing.longest)
    inputs = {
        "input_ids": torch.full(shape, model.config.pad_token_id or 0, device=device),
        "attention_mask": torch.zeros(shape, dtype=torch.int64, device=device),
    }
    inputs["input_ids"][places] = input_ids
    inputs["attention_mask"][places] = 1
    if token_type_ids is not None:
        inputs["token_type_ids"] = torch.zeros(shape, dtype=torch.int64, device=device)
        inputs["token_type_ids"][places] = token_type_ids
    return model(**inputs).last_hidden_state[places]

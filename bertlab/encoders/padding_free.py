"""Whether a model of transformers gives on packed tokens what it gives on padded ones, found out by trying."""

from __future__ import annotations

import inspect
from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from bertlab.encoders.attention_backend import NAME, NotPackedError
from bertlab.encoders.packed_layer import restore_layers, swap_layers
from bertlab.encoders.packing import Packing, pack

TOLERANCE = 1e-3  # of hidden states, which are about 1; a token that sees its neighbour is off by much more


def takes(model: PreTrainedModel, name: str) -> bool:
    """Whether the model's forward has an argument of this name."""
    return name in inspect.signature(model.forward).parameters


def position_offset(model: nn.Module) -> int:
    """The id of the first position: RoBERTa and its kin begin after the padding's id."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return 0 if module.padding_idx is None else module.padding_idx + 1
    return 0


def word_embedding(model: PreTrainedModel) -> nn.Embedding:
    """The table of the word pieces, (V, D)."""
    table = model.get_input_embeddings()
    assert isinstance(table, nn.Embedding)
    return table


def run_packed(
    model: PreTrainedModel,
    input_ids: Tensor,
    token_type_ids: Tensor | None,
    positions: Tensor,
    packing: Packing,
) -> Tensor:
    """Run a model on packed tokens.

    Args:
        model: switched to packed attention.
        input_ids: (N,).
        token_type_ids: (N,); None: the model takes none.
        positions: (N,) as the model counts them.
        packing: of the batch.

    Returns:
        (N, D) last hidden states; (S, D) if the packing asks for the first tokens alone and the model can give
        them alone.
    """
    types = {} if token_type_ids is None else {"token_type_ids": token_type_ids[None]}
    output = model(input_ids=input_ids[None], position_ids=positions[None], packing=packing, **types)
    return without_filler(output.last_hidden_state.squeeze(0), packing)


def without_filler(hidden: Tensor, packing: Packing) -> Tensor:
    """(N, D) hidden states of the tokens, of (N + filler, D); what the last layer gave of some tokens stays."""
    whole = packing.needed is None and not packing.first_only
    return hidden[: len(packing.rows)] if whole and packing.filler else hidden


@torch.no_grad()
def make_padding_free(model: PreTrainedModel, max_length: int) -> bool:
    """Switch a model to packed attention, and BERT-type layers to packed ones, if the results stay the same.

    Two sequences are run packed, and each alone by the model as it was. A model that does not take another
    attention (DeBERTa, MPNet), or comes out otherwise, is left as it was.

    Args:
        model: in evaluation mode.
        max_length: tokens that the model takes.

    Returns:
        Whether the model now runs on packed tokens.
    """
    # The class says whether it takes a registered attention; of others set_attn_implementation would only warn.
    backend = model._supports_attention_backend  # pyright: ignore[reportPrivateUsage]
    if not backend or not takes(model, "position_ids"):
        return False
    own = model.config._attn_implementation or "eager"  # pyright: ignore[reportPrivateUsage]
    window = getattr(model.config, "sliding_window", None) or 0
    lengths = torch.tensor([min(2 * window + 5, max_length), 3])
    ids = some_ids(model, int(lengths.sum()))
    parts = ids.split(lengths.tolist())
    with exact_products():
        alone = torch.cat([model(input_ids=part[None]).last_hidden_state[0] for part in parts])
        model.set_attn_implementation(NAME)
        packing = pack(lengths, ids.device, max_waste=0.0)
        replaced = swap_layers(model)
        if _agrees(model, ids, packing, alone):
            return True
        if replaced:  # parts of BERT's names, put together otherwise
            restore_layers(model, replaced)
            if _agrees(model, ids, packing, alone):
                return True
    model.set_attn_implementation(own)
    return False


@contextmanager
def exact_products() -> Generator[None]:
    """float32 products in full: with "medium" the rounding of some processors alone exceeds the tolerance."""
    wanted = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(wanted)


def some_ids(model: PreTrainedModel, count: int) -> Tensor:
    """Ids that differ from their neighbours and are no padding."""
    rows = word_embedding(model).num_embeddings
    ids = torch.arange(count).remainder(rows)
    ids[ids == model.config.pad_token_id] = rows - 1
    return ids


def _agrees(model: PreTrainedModel, ids: Tensor, packing: Packing, expected: Tensor) -> bool:
    types = torch.zeros_like(ids) if takes(model, "token_type_ids") else None
    try:
        packed = run_packed(model, ids, types, packing.positions + position_offset(model), packing)
    except NotPackedError:
        return False
    return torch.allclose(packed, expected, atol=TOLERANCE, rtol=TOLERANCE)

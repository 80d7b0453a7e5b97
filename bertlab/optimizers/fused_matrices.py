"""Weights that hold several matrices one above the other."""

from __future__ import annotations

from torch import nn

#: Names that transformers gives to such layers (ModernBERT's), and how many matrices of equal height each holds:
#: query, key and value; input and gate.
FUSED = {"Wqkv": 3, "Wi": 2}


def matrices_of(module: nn.Module) -> dict[int, int]:
    """How many matrices the weight of each linear layer within a module holds, where there are several.

    Args:
        module: of a block.

    Returns:
        The number by the identity of the weight.

    Examples:
        >>> layer = nn.ModuleDict({"Wqkv": nn.Linear(4, 12), "Wo": nn.Linear(4, 4)})
        >>> matrices_of(layer) == {id(layer["Wqkv"].weight): 3}
        True
    """
    found: dict[int, int] = {}
    for name, part in module.named_modules():
        number = FUSED.get(name.rsplit(".", 1)[-1])
        if number is not None and isinstance(part, nn.Linear) and part.out_features % number == 0:
            found[id(part.weight)] = number
    return found

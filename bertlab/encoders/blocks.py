"""The blocks of a transformers encoder, from the embeddings up."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import nn

from bertlab.interfaces import Block


def blocks_of(model: nn.Module, initializer: Callable[[nn.Module], None] | None = None) -> list[Block]:
    """Divide an encoder of transformers into "embeddings", "layer.0" …, and "pooler" if it has one.

    The layers are the outermost ModuleList. What stands before it, and what is shared by all layers (position
    biases and relative positions, with their normalisation), belongs to the embeddings; a final normalisation
    to the top layer. ALBERT's shared layer is one block.

    Args:
        model: of `transformers.AutoModel`.
        initializer: see `Block`.

    Returns:
        Blocks in order from the bottom to the top; the top one has depth 1, since a head has 0.

    Raises:
        ValueError: the model has no list of layers, or parameters outside every block.
    """
    path = next((name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)), None)
    if path is None:
        raise ValueError(f"encoder: {type(model).__name__} has no list of layers; take an encoder of texts")
    layers = model.get_submodule(path)
    bottom: list[nn.Module] = []
    top: list[nn.Module] = []
    pooler: list[nn.Module] = []
    for name, sibling, below in _beside(model, path):
        if name == "pooler":
            pooler.append(sibling)
        else:
            (bottom if below else top).append(sibling)
    stacks = [("embeddings", bottom), *((f"layer.{i}", [layer]) for i, layer in enumerate(layers.children()))]
    stacks[-1][1].extend(top)
    if pooler:
        stacks.append(("pooler", pooler))
    blocks = [Block(name, tuple(held), len(stacks) - i, initializer) for i, (name, held) in enumerate(stacks)]
    _check_complete(model, blocks)
    return blocks


def _beside(model: nn.Module, path: str) -> Iterator[tuple[str, nn.Module, bool]]:
    """Modules beside the way from the model to its layers: name, module, whether it is below the layers."""
    parent = model
    for step in path.split("."):
        children = dict(parent.named_children())
        shared = any(isinstance(child, nn.Embedding) for child in children.values())
        below = True
        for name, child in children.items():
            if name == step:
                below = False
            else:
                yield name, child, below or shared
        parent = children[step]


def _check_complete(model: nn.Module, blocks: list[Block]) -> None:
    held = {id(parameter) for block in blocks for parameter in block.parameters()}
    left = [name for name, parameter in model.named_parameters() if id(parameter) not in held]
    if left:
        raise ValueError(f"encoder: {type(model).__name__} has parameters outside every block: {left}")

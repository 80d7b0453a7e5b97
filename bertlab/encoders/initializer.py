"""Initializer: draws the parts of a model at random, as the model's configuration says."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class Initializer:
    """Draws what a module of a model holds itself; to be called for the parts of a module before the module.

    As transformers does, by the configuration and by what is special to the model's type.

    Args:
        model: of `transformers.AutoModel`.
        truncated_normal: draw matrices and tables as google-research/bert does, from a normal distribution that is cut
            off at twice its deviation, whatever the type.

    Raises:
        ValueError: `truncated_normal` of a model whose configuration has no initializer_range.
    """

    model: PreTrainedModel
    truncated_normal: bool = False

    def __post_init__(self) -> None:
        config = self.model.config
        if self.truncated_normal and getattr(config, "initializer_range", None) is None:
            raise ValueError(
                f"encoder.truncated_normal: a {config.model_type} has no initializer_range; leave it false"
            )

    @torch.no_grad()
    def __call__(self, module: nn.Module) -> None:
        """Draw the parameters of one module, from torch's generator."""
        # What came from a checkpoint is marked, and what is marked transformers leaves as it is.
        for held in (module, *module.parameters(recurse=False), *module.buffers(recurse=False)):
            vars(held).pop("_is_hf_initialized", None)
        self.model._init_weights(module)  # pyright: ignore[reportPrivateUsage]
        if self.truncated_normal:
            draw_truncated(module, self.model.config.initializer_range)


@torch.no_grad()
def draw_truncated(module: nn.Module, deviation: float) -> None:
    """Draw the weights of a linear layer or a table as `tf.truncated_normal_initializer` does."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.trunc_normal_(module.weight, std=deviation, a=-2 * deviation, b=2 * deviation)

"""LowRankAdapters: small matrices beside the encoder's linear layers are trained in the place of its weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from lightning.pytorch import LightningModule, Trainer
from peft import PeftConfig
from torch import nn

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.strategy import Run, Strategy
from bertlab.encoders.adapters import settings_of
from bertlab.interfaces import TakesAdapters

# jsonargparse fills in the defaults of every key; peft warns of this one's whenever it is there.
warnings.filterwarnings("ignore", message="`loftq_config` specified but will be ignored")


class LowRankAdapters(Strategy):
    """Freezes the encoder's own weights and trains adapters that the package peft puts beside its linear layers.

    LoRA (Hu et al. 2021, arXiv:2106.09685, section 4.1): a frozen weight W is seen as W + B·A·α/r, where A (r, inputs)
    and B (outputs, r) are trained, and B is 0 at first. Keys of `peft.LoraConfig` make it rsLoRA (Kalajdzievski 2023,
    arXiv:2312.03732), DoRA (Liu et al. 2024, arXiv:2402.09353) or PiSSA (Meng et al. 2024, arXiv:2404.02948); other
    classes of peft are (IA)³ (`peft.IA3Config`, Liu et al. 2022, arXiv:2205.05638), LoHa, LoKr and OFT. AdaLoRA, which
    moves ranks about while training lasts, is `AdaptiveRankAdapters`; prompts and prefixes, which cannot be merged, are
    refused.

    The head is trained as ever. Adapters belong to the block of their layer: its rate and its `StagedUnfreezing` are
    theirs, and blocks without any below the first adapted one are what `FrozenTrunkCache` keeps. They are there before
    the optimizer is built, and in every checkpoint, with their settings: `bertlab test`, `predict` and `export` put
    them in again by themselves. `bertlab export` merges them, so that the folder is a plain model of transformers.

    First weights differ with the seed of the run, and follow what other strategies make of the encoder's
    (`ReinitTopLayers`). An average of weights, and `L2Sp` or `Mixout`, which hold on to starting weights, work on A and
    B, not on their product.

    Args:
        config: a configuration of peft, by its own class and keys. `target_modules` takes the ends of names in the
            model of transformers, or `all-linear`: every linear layer within the encoder's blocks, the pooler's too.

    Raises:
        ValueError: a method or key that cannot be merged or that needs a training loop of its own.
    """

    touches: ClassVar[set[str]] = {"parameters"}

    def __init__(self, config: PeftConfig) -> None:
        self.config = config
        self._settings = settings_of(config)
        self._trained: Sequence[nn.Parameter] = ()

    def extend(self, module: LightningModule, generator: torch.Generator) -> None:
        """Put the adapters in."""
        if not isinstance(module, TakesAdapters):
            raise TypeError(
                "LowRankAdapters needs a task whose encoder takes adapters, and "
                f"{type(module).__name__} has no add_adapters"
            )
        self._trained = module.add_adapters(self._settings, generator)

    def prepare(self, trainer: Trainer, blocks: Blocks, horizon: Horizon) -> None:
        """Let those go whose layer the task has no use for: a pooler that a head left out after they were put in."""
        there = {id(parameter) for parameter in trainer.lightning_module.parameters()}
        self._trained = [parameter for parameter in self._trained if id(parameter) in there]

    def works_on(self, blocks: Blocks) -> Iterable[nn.Parameter]:
        """The adapters."""
        return self._trained

    def apply(self, run: Run) -> None:
        """Train the adapters and the head."""
        encoder = {id(p): p for block in run.blocks for p in block.parameters()}
        head = [p for p in run.head.parameters() if id(p) not in encoder]
        run.train_parameters([*self._trained, *head])
        numbers = [sum(p.numel() for p in group) for group in (self._trained, head, encoder.values())]
        run.note(
            "adapters", settings=self._settings, adapters=numbers[0], head=numbers[1], encoder=numbers[2]
        )

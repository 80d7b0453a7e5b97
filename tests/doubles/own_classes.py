"""Classes of one's own that take the same arguments, with defaults of their own."""

from __future__ import annotations

from dataclasses import dataclass

from lightning.pytorch import Callback
from small import SmallData
from torch import nn

from bertlab.corpus.vocabulary import TrainedVocabulary


class Part:
    """Is named within another class."""

    def __init__(self, size: int = 1, weight: float = 0.5) -> None:
        self.size, self.weight = size, weight


class OtherPart(Part):
    """Has other defaults."""

    def __init__(self, size: int = 2, weight: float = 0.25) -> None:
        super().__init__(size, weight)


class Whole(Callback):
    """Has a part."""

    def __init__(self, size: int = 10, sizes: tuple[int, int] = (1, 2), part: Part | None = None) -> None:
        self.size, self.sizes, self.part = size, sizes, part


class OtherWhole(Whole):
    """Has other defaults."""

    def __init__(self, size: int = 20, sizes: tuple[int, int] = (3, 4), part: Part | None = None) -> None:
        super().__init__(size, sizes, part)


class LargeBatches(SmallData):
    """Has another default."""

    def __init__(self, source: str = "elsewhere", batch: int = 16) -> None:
        super().__init__(source, batch=batch)


class Module(nn.Module):
    """An encoder or a loss."""

    def __init__(self, rate: float = 0.1, width: int = 8) -> None:
        super().__init__()
        self.rate, self.width = rate, width


class OtherModule(Module):
    """Has other defaults."""

    def __init__(self, rate: float = 0.2, width: int = 16) -> None:
        super().__init__(rate, width)


@dataclass(frozen=True)
class SmallVocabulary(TrainedVocabulary):
    """Has another default."""

    size: int = 300

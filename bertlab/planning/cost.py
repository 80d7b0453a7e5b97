"""Cost: what an optimizer step takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What a step takes where certain blocks are trained on sequences of a certain length.

    Attributes:
        weights: bytes of parameters and buffers.
        gradients: bytes of the gradients of what is trained.
        optimizer: bytes of the optimizer's state, measured after the timed steps; None: there were none.
        activations: most bytes that autograd kept in a timed step at once; None: there were none.
        device_peak: most bytes that the device's allocator handed out in a timed step; None: it does not say (a CPU).
        seconds: median of the timed steps; None: there were none.
        tokens: of those steps on average; None: the data does not say.
        timed: number of timed steps.
    """

    weights: int
    gradients: int
    optimizer: int | None = None
    activations: int | None = None
    device_peak: int | None = None
    seconds: float | None = None
    tokens: float | None = None
    timed: int = 0

    @property
    def memory(self) -> int | None:
        """Bytes in all: what the device's allocator says, else the sum; None where a part of it is not known."""
        if self.device_peak is not None:
            return self.device_peak
        if self.optimizer is None or self.activations is None:
            return None
        return self.weights + self.gradients + self.optimizer + self.activations

    def seconds_of(self, tokens: float | None) -> float | None:
        """Seconds of a step of so many tokens, in proportion to those of the timed steps.

        Examples:
            >>> Cost(weights=0, gradients=0, seconds=0.5, tokens=1000).seconds_of(1200)
            0.6
        """
        if self.seconds is None or tokens is None or not self.tokens:
            return self.seconds
        return self.seconds * tokens / self.tokens

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
        made: most bytes at once of what a timed step makes beside that state: activations, gradients, what the
            optimizer works with; None: there was none.
        device_peak: most bytes that the device's allocator handed out in a timed step; None: it does not say (a CPU).
        seconds: median of the timed steps; None: there were none.
        tokens: of those steps on average; None: the data does not say.
        timed: number of timed steps.
    """

    weights: int
    gradients: int
    optimizer: int | None = None
    made: int | None = None
    device_peak: int | None = None
    seconds: float | None = None
    tokens: float | None = None
    timed: int = 0

    @property
    def memory(self) -> int | None:
        """Bytes at most at once: what the device's allocator says, else what is made beside what stays."""
        if self.device_peak is not None:
            return self.device_peak
        if self.optimizer is None or self.made is None:
            return None
        return self.weights + self.optimizer + self.made

    def seconds_of(self, tokens: float | None) -> float | None:
        """Seconds of a step of so many tokens, in proportion to those of the timed steps.

        Examples:
            >>> Cost(weights=0, gradients=0, seconds=0.5, tokens=1000).seconds_of(1200)
            0.6
        """
        if self.seconds is None or tokens is None or not self.tokens:
            return self.seconds
        return self.seconds * tokens / self.tokens

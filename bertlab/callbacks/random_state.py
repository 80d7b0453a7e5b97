"""RandomState: where torch's random numbers stand, to draw the same ones again."""

from __future__ import annotations

import torch


class RandomState:
    """What torch's default generators draw next: that of the CPU, and that of the device if it is another.

    Args:
        device: that is computed on.
    """

    def __init__(self, device: torch.device) -> None:
        self._module = None if device.type == "cpu" else torch.get_device_module(device)
        self._of_cpu = torch.get_rng_state()
        self._of_device = None if self._module is None else self._module.get_rng_state()

    def restore(self) -> None:
        """Draw from here on again."""
        torch.set_rng_state(self._of_cpu)
        if self._module is not None:
            self._module.set_rng_state(self._of_device)

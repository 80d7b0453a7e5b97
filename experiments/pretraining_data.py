"""The data module that `bertlab fit` pretrains on, for programs that are not bertlab."""

from __future__ import annotations

from typing import Any

from bertlab.data.pretraining import PretrainingData
from bertlab.samplers.phases import Phase


def pretraining_data(config: dict[str, Any]) -> PretrainingData:
    """The same examples in the same order.

    Args:
        config: of `bertlab fit`, with data.init_args.phases and seed_everything.
    """
    options = config["data"]["init_args"]
    phases = [Phase(**phase) for phase in options["phases"]]
    return PretrainingData(**{**options, "phases": phases}, seed=config["seed_everything"])

"""Make the batches of a pass over the corpus, one after another in this process, and write what it took.

python -m experiments.cost_of_examples.making --config CASE.yaml --output FILE.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from experiments.configurations import load_config
from experiments.pretraining_data import pretraining_data

WARM_UP = 3  # batches


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="of bertlab fit")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    options = parser.parse_args()
    config = load_config(options.config)
    make(config, WARM_UP)  # loads compiled functions, and the store into the system's memory
    options.output.write_text(json.dumps(make(config)), encoding="utf-8")


def make(config: dict[str, Any], stop: int | None = None) -> dict[str, Any]:
    """Make batches as `bertlab fit` does, without a thread or worker.

    Args:
        config: of `bertlab fit`, with data.init_args.phases and seed_everything.
        stop: after so many batches; None: after a pass over the corpus.

    Returns:
        `batches`; `cpu_seconds` and `wall_seconds` of all of them with the plan of the pass, in which examples are
        counted and shuffled; and `median_seconds` of CPU time of a batch, which knows no plan.
    """
    data = pretraining_data(config)
    examples = data.examples.training
    wall, cpu = time.perf_counter(), time.process_time()
    sampler = data.train_dataloader().sampler  # without a trainer it is set for a pass over the corpus
    ends = [time.process_time()]
    for part in islice(sampler, stop):
        _ = examples[part]
        ends.append(time.process_time())
    return {
        "batches": len(ends) - 1,
        "cpu_seconds": ends[-1] - cpu,
        "wall_seconds": time.perf_counter() - wall,
        "median_seconds": statistics.median(b - a for a, b in pairwise(ends)),
    }


if __name__ == "__main__":
    main()

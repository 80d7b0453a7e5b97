"""What a step of each optimizer of configs/optimizers costs, and what it keeps, on an encoder of MiniLM's size.

python -m experiments.optimizer_costs.run
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from bertlab.encoders.from_config import EncoderFromConfig
from bertlab.interfaces import TextBatch
from bertlab.optimizers.parameter_groups import build_optimizer, parameter_groups
from experiments.commands import ROOT
from experiments.results import machine, read_rows, write_results, write_rows

HERE = Path(__file__).parent
FRAGMENTS = sorted((ROOT / "configs" / "optimizers").glob("*.yaml"))
#: MiniLM, 6 layers.
SIZE = {
    "vocab_size": 30522,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}
TEXTS, TOKENS = 32, 32


def maker(fragment: Path) -> Callable[[Any], torch.optim.Optimizer]:
    """The optimizer of a file, as the command line makes it."""

    def task(optimizer: OptimizerCallable) -> None:
        """Take an optimizer."""

    parser = ArgumentParser()
    parser.add_function_arguments(task, sub_configs=True)
    return parser.instantiate(parser.parse_args(["--optimizer", str(fragment)])).optimizer


def batch() -> TextBatch:
    """Texts of equal length."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, 30000, (TEXTS * TOKENS,), generator=generator)
    lengths = torch.full((TEXTS,), TOKENS)
    return TextBatch(ids, torch.zeros_like(ids), lengths, torch.arange(TEXTS))


def forward_and_backward(encoder: EncoderFromConfig, texts: TextBatch) -> None:
    """Gradients of every parameter."""
    output = encoder(texts)
    loss = output.hidden.square().mean()
    if output.pooled is not None:
        loss = loss + output.pooled.square().mean()
    loss.backward()


def milliseconds(action: Callable[[], Any], times: int, repeats: int) -> float:
    """CPU time of this process for one action: the mean over `times`, and of `repeats` such means the median.

    CPU time, since it is what the action takes wherever the cores are shared with others.
    """
    means: list[float] = []
    for _ in range(repeats):
        start = time.process_time()
        for _ in range(times):
            action()
        means.append(1000 * (time.process_time() - start) / times)
    return statistics.median(means)


def bytes_of(value: Any) -> int:
    """Of all tensors in an optimizer's state."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(bytes_of(item) for item in value.values())
    return sum(bytes_of(item) for item in value) if isinstance(value, list | tuple) else 0


def measured(fragment: Path, times: int, repeats: int) -> dict[str, Any]:
    """A row of results.csv."""
    torch.manual_seed(0)
    encoder = EncoderFromConfig("bert", SIZE).train()
    optimizer = build_optimizer(maker(fragment), parameter_groups(encoder.blocks(), None, model=encoder))
    if hasattr(optimizer, "train"):
        optimizer.train()
    forward_and_backward(encoder, batch())

    def step() -> None:
        optimizer.step()

    step()
    step()  # SOAP's first step only looks
    spent = milliseconds(step, times, repeats)
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    return {
        "optimizer": fragment.stem,
        "step_ms": spent,
        "state_bytes_per_parameter": bytes_of(dict(optimizer.state)) / parameters,
    }


def pass_ms(times: int, repeats: int) -> float:
    """A forward and backward pass."""
    torch.manual_seed(0)
    encoder = EncoderFromConfig("bert", SIZE).train()
    texts = batch()

    def both() -> None:
        encoder.zero_grad(set_to_none=True)
        forward_and_backward(encoder, texts)

    both()
    return milliseconds(both, times, repeats)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown, the quickest first."""
    lines = ["| | CPU time of a step, ms | state, bytes a parameter |", "|---|---|---|"]
    for row in sorted(rows, key=lambda row: row["step_ms"]):
        state = row["state_bytes_per_parameter"]
        lines.append(
            f"| {row['optimizer']} | {row['step_ms']:.0f} | {'' if state == '' else f'{state:.2g}'} |"
        )
    return "\n".join(lines)


def report(output: Path) -> None:
    """The table of results.csv, into the README."""
    found = table(read_rows(output / "results.csv"))
    write_results(output, found)
    print(found)


def main() -> None:
    """Measure, and write results.csv and the table of README.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", action="store_true", help="the table of results.csv, without measuring")
    parser.add_argument("--times", type=int, default=10, help="steps that a mean is taken over")
    parser.add_argument("--repeats", type=int, default=5, help="means")
    options = parser.parse_args()
    if not options.report:
        torch.set_num_threads(1)
        rows = [{"optimizer": "forward and backward", "step_ms": pass_ms(3, options.repeats)}]
        for fragment in FRAGMENTS:
            rows.append(measured(fragment, options.times, options.repeats))
            print(rows[-1], flush=True)
        write_rows(HERE / "results.csv", rows)
        (HERE / "machine.txt").write_text(f"{machine()}\n", encoding="utf-8")
    report(HERE)


if __name__ == "__main__":
    main()

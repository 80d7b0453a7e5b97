"""The commands that are compared, each run in a process of its own, and what is read from what they leave."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from transformers import BertConfig, BertForPreTraining, set_seed

from experiments.commands import BERTLAB, PYTHON, ROOT, flags_of, run_command
from experiments.configurations import load_config
from experiments.fits import FIT, clock_flags, logged, run_flags
from experiments.flops import Amount
from experiments.hf_pretraining import draw
from experiments.rates import read_clock, training_seconds
from experiments.turns import Place, options_of

FOLDER = Path(__file__).parent
LOG_EVERY = 10  # optimizer steps, bertlab's default


class Losses(NamedTuple):
    """What a run logged.

    Attributes:
        training: of the optimizer steps that were logged.
        validation: at the end.
    """

    training: list[float]
    validation: float


@dataclass(frozen=True)
class Bench:
    """A case of the study with one seed: what all of its systems share.

    Attributes:
        name: of the case.
        size: arguments of BertConfig.
        case: of study.yaml: length, batch_size, steps, warm_up_steps, and where it has one its rate; `config`, from
            the root of the repository, in the place of pretrain.yaml.
        validation_examples: how many.
        seed: of the first weights, the examples and dropout.
        store: folder of the token store.
        work: folder for what runs leave.
        log_every: optimizer steps.
        threads: that a run computes with; None: as many as there are cores.
    """

    name: str
    size: Mapping[str, Any]
    case: Mapping[str, Any]
    validation_examples: int
    seed: int
    store: Path
    work: Path
    log_every: int = LOG_EVERY
    threads: int | None = None

    def fit(self, system: str, settings: Mapping[str, Any], place: Place | None = None) -> dict[str, Any]:
        """Train one system, alone or in turn with others; its row of results, with the GPU if it trained on one.

        Checkpoints are not kept.
        """
        folder = self.folder / system
        cost = run_command(self._command(system, settings, folder, place), folder / "log.txt")
        clock = read_clock(folder / "clock.json")
        row = {
            "layers": self.size["num_hidden_layers"],
            "width": self.size["hidden_size"],
            "length": self.case["length"],
            "batch_size": self.case["batch_size"],
            "steps": self.case["steps"],
            **self._speed(clock),
            "peak_mib": cost.peak_mib,
            **({f"gpu_{fact}": value for fact, value in clock["gpu"].items()} if clock["gpu"] else {}),
            "validation_loss": self.losses(system).validation,
        }
        shutil.rmtree(folder)
        return row

    def train(self, system: str, settings: Mapping[str, Any]) -> Losses:
        """Train one system; what it logged."""
        folder = self.folder / system
        run_command(self._command(system, settings, folder), folder / "log.txt", self.threads)
        return self.losses(system)

    def losses(self, system: str) -> Losses:
        """What a run has left."""
        folder = self.folder / system
        if not system.startswith("bertlab"):
            found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
            return Losses(found["train_losses"], found["validation_loss"])
        training = [loss for _, loss in logged(folder / FIT, "train/loss")]  # few steps: none
        return Losses(training, logged(folder / FIT, "val/loss")[-1][1])

    @property
    def folder(self) -> Path:
        """Where everything of this case and seed is."""
        return self.work / f"{self.name}_{self.seed}"

    @cached_property
    def config(self) -> Path:
        """The configuration, with the first weights that it names: both sides read it."""
        weights, path = self.folder / "weights", self.folder / "config.yaml"
        shutil.rmtree(self.folder, ignore_errors=True)
        set_seed(self.seed)
        BertForPreTraining(BertConfig(**self.size)).save_pretrained(weights)
        config = load_config(
            ROOT / self.case["config"] if "config" in self.case else FOLDER / "pretrain.yaml"
        )
        config["seed_everything"] = self.seed
        config["model"]["init_args"]["encoder"] = {
            "class_path": "bertlab.encoders.pretrained.PretrainedEncoder",
            "init_args": {"source": str(weights)},
        }
        if "rate" in self.case:
            config["model"]["init_args"]["optimizer"]["init_args"]["lr"] = self.case["rate"]
        config["data"]["init_args"] |= {
            "store": str(self.store),
            "phases": [{"length": self.case["length"]}],
            "batch_size": self.case["batch_size"],
            "max_validation_examples": self.validation_examples,
        }
        # Micro-batches are optimizer steps here: it validates once, after the last one.
        steps = self.case["steps"]
        config["trainer"] |= {
            "max_steps": steps,
            "val_check_interval": steps,
            "log_every_n_steps": self.log_every,
        }
        path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        return path

    def prepare(self) -> None:
        """Make what all systems read: weights, configuration, examples."""
        _ = self.drawn

    @cached_property
    def drawn(self) -> list[Amount]:
        """What each optimizer step holds; the peer's data set is there then."""
        return draw(load_config(self.config), self.folder / "examples")

    def _command(
        self, system: str, settings: Mapping[str, Any], folder: Path, place: Place | None = None
    ) -> list[str]:
        self.prepare()
        if system.startswith("bertlab"):
            command = [BERTLAB, "fit", "--config", str(self.config), "--config", settings["overlay"]]
            command += settings.get("flags", [])
            command += ["--wandb.mode", "disabled"]  # the peer reports to no service either
            return [*command, *run_flags(folder), *clock_flags(folder / "clock.json", place)]
        command = [PYTHON, "-m", "experiments.hf_pretraining", "--config", str(self.config)]
        command += ["--examples", str(self.folder / "examples"), "--output", str(folder)]
        return [*command, *flags_of(settings), *([] if place is None else options_of(place))]

    def _speed(self, clock: Mapping[str, Any]) -> dict[str, Any]:
        """Rates of the steps after the warm-up, from the start of the first to the end of the last, of each turn.

        Raises:
            ValueError: the system did not train on what was drawn.
        """
        tokens, batch_size = [step.tokens for step in self.drawn], self.case["batch_size"]
        epochs = clock["epochs"]
        starts, ends = ([time for epoch in epochs for time in epoch[which]] for which in ("starts", "ends"))
        seen = (len(starts), clock["rows_per_epoch"], clock["tokens_per_epoch"])
        drawn = (len(tokens), len(tokens) * batch_size // len(epochs), sum(tokens) // len(epochs))
        if seen != drawn:
            raise ValueError(f"steps, and sequences and tokens of an epoch: drawn {drawn}, trained on {seen}")
        first = self.case["warm_up_steps"]
        seconds = training_seconds(starts, ends, clock["in_turn"], first)
        return {
            "sequences_per_second": (len(starts) - first) * batch_size / seconds,
            "tokens_per_second": sum(tokens[first:]) / seconds,
            "step_seconds": seconds / (len(starts) - first),
        }

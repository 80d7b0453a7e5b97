"""Pretrain on the news, then fine-tune from these weights and from random ones, over seeds; table and figure."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy import stats

from bertlab.corpus.token_store import TokenStore
from experiments.measure import (
    BERTLAB,
    ROOT,
    load_study,
    markdown_table,
    measured_on,
    read_rows,
    run_command,
    run_study,
    study_options,
    write_results,
)

FOLDER = Path(__file__).parent
WORK = ROOT / "runs" / "experiments" / FOLDER.name
STARTS = ("random", "pretrained")


def main() -> None:
    options = study_options(__doc__)
    output = WORK / "quick" if options.quick else FOLDER
    if not options.report:
        study = load_study(FOLDER, options.quick)
        if options.fresh or options.quick:
            shutil.rmtree(WORK, ignore_errors=True)
        run_study(study, runs(study), output, options.fresh or options.quick)
    report(output)


def runs(study: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Callable[[], dict[str, Any]]]]:
    """Both pretrainings, then both starts of each probe for each seed."""
    for name in ("pretraining", "continued"):
        yield {"part": name, "seed": "", "start": "", "probe": ""}, partial(pretrain, study, name)
    for seed in study["seeds"]:
        for probe in study["probes"]:
            for start in STARTS:
                known_by = {"part": "probe", "seed": seed, "start": start, "probe": probe}
                yield known_by, partial(fine_tune, study, probe, start, seed)


def pretrain(study: dict[str, Any], name: str) -> dict[str, Any]:
    """Make the token store and pretrain on it, all of it if it is not there; the validation losses of the run."""
    part = study[name]
    log, folder = WORK / f"{name}.txt", WORK / name / "0"
    run_command([BERTLAB, "corpus", "--config", part["corpus"]], log)
    shutil.rmtree(WORK / name, ignore_errors=True)
    common = ["--config", part["config"], "--config", study["overlay"], "--run.root", str(WORK)]
    common += ["--run.name", name]
    before = {}
    if name == "continued":
        run_command([BERTLAB, "validate", *common, "--run.version", "before"], log)
        before = results(WORK / name / "before")["validate"]
    cost = run_command([BERTLAB, "fit", *common, "--run.version", "0", *steps(study)], log)
    shutil.rmtree(WORK / f"{name}_model", ignore_errors=True)
    exported = ["--ckpt_path", "best", "--output", str(WORK / f"{name}_model")]
    run_command([BERTLAB, "export", *common, "--run.version", "0", *exported], log)
    losses = curve(folder, "val/masked_loss")
    write_curve(WORK / f"{name}.json", losses)
    store = yaml.safe_load((ROOT / part["config"]).read_text())["data"]["init_args"]["store"]
    return {
        "score": losses[-1][1],
        "before": before.get("masked_loss", ""),
        "unigram": unigram_loss(ROOT / store),
        "seconds": cost.seconds,
    }


def fine_tune(study: dict[str, Any], probe: str, start: str, seed: int) -> dict[str, Any]:
    """One fit of a probe, tested at its best checkpoint."""
    model, part = WORK / "pretraining_model", study["probes"][probe]
    folder = WORK / f"{probe}_{start}_{seed}"
    encoder = folder / "encoder.yaml"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    encoder.write_text(yaml.safe_dump(encoder_of(start, model)), encoding="utf-8")
    command = [BERTLAB, "fit", "--config", part["config"], "--config", study["overlay"]]
    command += [f"--model.encoder={encoder}", "--data.init_args.tokenizer", str(model)]
    command += ["--run.root", str(folder), "--run.name", "fit", "--run.version", "0"]
    command += ["--seed_everything", str(seed), *steps(study)]
    cost = run_command(command, folder / "log.txt")
    score = results(folder / "fit" / "0")["test"][part["score"]]
    shutil.rmtree(folder / "fit" / "0" / "checkpoints")
    return {"score": score, "before": "", "unigram": "", "seconds": cost.seconds}


def encoder_of(start: str, model: Path) -> dict[str, Any]:
    """The exported encoder, or one of the same configuration with weights drawn anew."""
    if start == "pretrained":
        return {
            "class_path": "bertlab.encoders.pretrained.PretrainedEncoder",
            "init_args": {"source": str(model)},
        }
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    wanted = (
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
        "max_position_embeddings",
    )  # fmt: skip
    return {
        "class_path": "bertlab.encoders.from_config.EncoderFromConfig",
        "init_args": {"model_type": "bert", "config": {key: config[key] for key in wanted}},
    }


def steps(study: dict[str, Any]) -> list[str]:
    """Of --quick: a few steps."""
    return ["--trainer.max_steps", str(study["steps"])] if "steps" in study else []


def results(run: Path) -> dict[str, Any]:
    return json.loads((run / "results.json").read_text(encoding="utf-8"))


def curve(run: Path, key: str) -> list[tuple[int, float]]:
    """Step and value of each validation."""
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [(int(row["step"]), float(row[key])) for row in csv.DictReader(file) if row.get(key)]


def write_curve(path: Path, points: list[tuple[int, float]]) -> None:
    path.write_text(json.dumps(points), encoding="utf-8")


def unigram_loss(store: Path) -> float:
    """Nats a token of the best guess that looks at no context: the entropy of the store's own frequencies.

    It is a little too good, since the frequencies are those of the text that it is measured on; special tokens are
    none of the text.
    """
    counts = np.bincount(np.asarray(TokenStore.open(store).tokens))
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def report(output: Path) -> None:
    """The tables of results.csv, into the README, and the figure."""
    rows = read_rows(output / "results.csv")
    pretrained = {row["part"]: row for row in rows if row["part"] != "probe"}
    table = [["", "masked loss before, nats", "best guess without context", "masked loss after", "minutes"]]
    for name, row in pretrained.items():
        before = f"{row['before']:.3f}" if row["before"] != "" else "–"
        minutes = f"{row['seconds'] / 60:.0f}"
        table.append([name, before, f"{row['unigram']:.3f}", f"{row['score']:.3f}", minutes])
    probes = [["probe", *(f"{start}, mean ± sd" for start in STARTS), "difference", "p (paired t-test)"]]
    for probe in dict.fromkeys(row["probe"] for row in rows if row["part"] == "probe"):
        scores = [scores_of(rows, probe, start) for start in STARTS]
        cells = [f"{np.mean(s):.3f} ± {np.std(s, ddof=1) if len(s) > 1 else 0:.3f}" for s in scores]
        difference = np.subtract(scores[1], scores[0])
        p = f"{stats.ttest_rel(scores[1], scores[0]).pvalue:.1g}" if len(difference) > 1 else "–"
        probes.append([str(probe), *cells, f"{difference.mean():+.3f}", p])
    write_results(output, "\n\n".join([markdown_table(table), markdown_table(probes), measured_on(output)]))
    draw(rows, output / "figure.png")
    print(markdown_table(table), markdown_table(probes), sep="\n\n")


def scores_of(rows: list[dict[str, Any]], probe: Any, start: str) -> list[float]:
    """In the order of the seeds."""
    found = [row for row in rows if row["probe"] == probe and row["start"] == start]
    return [row["score"] for row in sorted(found, key=lambda row: row["seed"])]


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """The curve of the pretraining beside the guess without context, and the probes' scores."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    probes = list(dict.fromkeys(row["probe"] for row in rows if row["part"] == "probe"))
    figure, axes = pyplot.subplots(1, 1 + len(probes), figsize=(4 + 2.6 * len(probes), 3.4))
    pretraining = next(row for row in rows if row["part"] == "pretraining")
    points = json.loads((WORK / "pretraining.json").read_text(encoding="utf-8"))
    axes[0].plot(*zip(*points, strict=True), "o-", label="4 × 256 from scratch")
    axes[0].axhline(pretraining["unigram"], color="black", linestyle="--", label="best guess without context")
    axes[0].set(title="masked news, validation", xlabel="optimizer steps", ylabel="nats a token")
    axes[0].legend(frameon=False, fontsize=8)
    for panel, probe in zip(axes[1:], probes, strict=True):
        for place, start in enumerate(STARTS):
            scores = scores_of(rows, probe, start)
            panel.plot([place] * len(scores), scores, "o", alpha=0.5)
            panel.hlines(np.mean(scores), place - 0.25, place + 0.25, color="black")
        panel.set_xticks(range(len(STARTS)), STARTS)
        panel.set_xlim(-0.5, len(STARTS) - 0.5)
        panel.set_title(f"{probe}, test")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    main()

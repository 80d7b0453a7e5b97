"""Pretrain on news and papers, then fine-tune from these weights and from random ones, over seeds; table and figure."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import yaml
from scipy import stats
from transformers import AutoConfig

from bertlab.corpus.token_store import TokenStore
from bertlab.sources.models import model_folder
from experiments.commands import BERTLAB, ROOT, run_command, run_forked
from experiments.figures import draw_points, picture
from experiments.fits import FIT, logged, read_scores, run_flags
from experiments.results import measured_on, read_rows, write_results
from experiments.study import Run, load_study, run_study, study_parser, work_folder
from experiments.tables import markdown_table

FOLDER = Path(__file__).parent
HEAD_ALONE = (FOLDER / "head_alone.yaml").relative_to(ROOT)
STARTS = ("random", "pretrained")
PROBES_AT_ONCE = 2  # on one thread each


def main() -> None:
    parser = study_parser(__doc__, check="the same as --quick")
    parser.add_argument(
        "--encoder",
        help="an exported folder, packaged:… or hub id in the place of pretraining: the probes alone",
    )
    options = parser.parse_args()
    quick = options.quick or options.check
    # Each has a folder of its own: what took an hour to train is not overwritten by a trial.
    work = work_folder(FOLDER) / ("quick" if quick else "whole")
    output = work if quick else FOLDER
    if not options.report:
        study = load_study(FOLDER, quick)
        if options.encoder is not None:
            found = model_folder(options.encoder)
            study["encoder"] = str(Path(found).resolve()) if Path(found).is_dir() else found
        if options.fresh or quick:
            shutil.rmtree(work, ignore_errors=True)
        fresh = options.fresh or quick
        if "encoder" not in study:
            run_study(study, pretrainings(study, work), output, fresh)
            fresh = False
        run_study(study, probes(study, work), output, fresh, at_once=PROBES_AT_ONCE)
    report(output)


def pretrainings(study: dict[str, Any], work: Path) -> Iterator[Run]:
    """From scratch, then continued; before the probes, which leave one thread to all that this process starts."""
    for name in ("pretraining", "continued"):
        yield {"part": name, "seed": "", "start": "", "probe": ""}, partial(pretrain, study, name, work)


def probes(study: dict[str, Any], work: Path) -> Iterator[Run]:
    """Both starts of each probe for each seed."""
    for seed in study["seeds"]:
        for probe in study["probes"]:
            for start in STARTS:
                known_by = {"part": "probe", "seed": seed, "start": start, "probe": probe}
                yield known_by, partial(fine_tune, study, probe, start, seed, work)


def pretrain(study: dict[str, Any], name: str, work: Path) -> dict[str, Any]:
    """Make the token store and pretrain on it, all of it if it is not there; the validation losses of the run."""
    part = study[name]
    logs, exported = work / f"{name}_logs", work / f"{name}_model"
    run_command([BERTLAB, "corpus", "--config", part["corpus"]], logs / "corpus.txt")
    for folder in (work / name, exported):
        shutil.rmtree(folder, ignore_errors=True)
    settings = ["--config", part["config"], "--config", study["overlay"], *part.get("arguments", [])]
    common = [*settings, *run_flags(work, name)]
    before: float | str = ""
    head_alone: float | str = ""
    if name == "continued":
        flags = [*settings, *run_flags(work, name, "before")]
        run_command([BERTLAB, "validate", *flags], logs / "validate.txt")
        before = read_scores(work / name / "before", "val")["masked_loss"]
        flags = [*settings, f"--trainer.callbacks+={HEAD_ALONE}", *run_flags(work, name, "head_alone")]
        run_command([BERTLAB, "fit", *flags], logs / "head_alone.txt")
        head_alone = logged(work / name / "head_alone", "val/masked_loss")[-1][1]
    cost = run_command([BERTLAB, "fit", *common], logs / "fit.txt")
    if name == "pretraining":  # the probes begin with it
        best = ["--ckpt_path", "best", "--output", str(exported)]
        run_command([BERTLAB, "export", *common, *best], logs / "export.txt")
    store = yaml.safe_load((ROOT / part["config"]).read_text(encoding="utf-8"))["data"]["init_args"]["store"]
    losses = logged(work / name / "0", "val/masked_loss")
    return {
        "score": losses[-1][1],
        "before": before,
        "head_alone": head_alone,
        "unigram": unigram_loss(ROOT / store),
        "seconds": cost.seconds,
        "curve": " ".join(f"{step}:{loss:.4f}" for step, loss in losses),
    }


def fine_tune(study: dict[str, Any], probe: str, start: str, seed: int, work: Path) -> dict[str, Any]:
    """One fit of a probe, tested at its best checkpoint."""
    model, part = study.get("encoder") or str(work / "pretraining_model"), study["probes"][probe]
    if "encoder" not in study and not Path(model).exists():
        raise FileNotFoundError(f"{model} is gone: --fresh pretrains it again, --encoder takes another")
    folder = work / f"{probe}_{start}_{seed}"
    encoder = folder / "encoder.yaml"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    encoder.write_text(yaml.safe_dump(encoder_of(start, model)), encoding="utf-8")
    arguments = ["fit", "--config", part["config"], "--config", study["overlay"]]
    arguments += [f"--model.encoder={encoder}", "--data.init_args.tokenizer", model]
    arguments += [*run_flags(folder), "--seed_everything", str(seed), *part.get("arguments", [])]
    start_of_run = time.perf_counter()
    run_forked(arguments, folder / "log.txt", threads=1)
    seconds = time.perf_counter() - start_of_run
    score = read_scores(folder / FIT)[part["score"]]
    shutil.rmtree(folder / FIT / "checkpoints")
    return {
        "score": score,
        "before": "",
        "head_alone": "",
        "unigram": "",
        "seconds": seconds,
        "curve": "",
    }


def encoder_of(start: str, model: str) -> dict[str, Any]:
    """The pretrained encoder, or one of the same configuration with weights drawn anew."""
    if start == "pretrained":
        return {"class_path": "bertlab.encoders.pretrained.PretrainedEncoder", "init_args": {"source": model}}
    config = AutoConfig.from_pretrained(model).to_diff_dict()
    kind = config["model_type"]
    others = {"architectures", "dtype", "model_type", "transformers_version"}
    own = AutoConfig.for_model(kind).to_dict().keys() - others
    return {
        "class_path": "bertlab.encoders.from_config.EncoderFromConfig",
        "init_args": {
            "model_type": kind,
            "config": {key: config[key] for key in sorted(own & config.keys())},
        },
    }


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
    tables = [
        markdown_table(table) for table in (pretraining_table(rows), probe_table(rows)) if len(table) > 1
    ]
    write_results(output, "\n\n".join([*tables, measured_on(output)]))
    draw(rows, output / "figure.png")
    print(*tables, sep="\n\n")


def pretraining_table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """A row for each pretraining; a table without rows where there was none."""
    columns = {
        "before": "masked loss before, nats",
        "unigram": "best guess without context",
        "head_alone": "the head alone trained",
        "score": "masked loss after",
    }
    table = [["", *columns.values(), "minutes"]]
    for row in rows:
        if row["part"] != "probe":
            losses = [f"{row[key]:.3f}" if row[key] != "" else "–" for key in columns]
            table.append([row["part"], *losses, f"{row['seconds'] / 60:.0f}"])
    return table


def probe_table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """A row for each probe."""
    table = [["probe", *(f"{start}, mean ± sd" for start in STARTS), "difference", "p (paired t-test)"]]
    for probe in probes_of(rows):
        scores = [scores_of(rows, probe, start) for start in STARTS]
        cells = [f"{np.mean(s):.3f} ± {np.std(s, ddof=1):.3f}" for s in scores]
        p = stats.ttest_rel(scores[1], scores[0]).pvalue
        table.append([probe, *cells, f"{np.subtract(scores[1], scores[0]).mean():+.3f}", f"{p:.1g}"])
    return table


def probes_of(rows: list[dict[str, Any]]) -> list[str]:
    """The probes, each once."""
    return list(dict.fromkeys(row["probe"] for row in rows if row["part"] == "probe"))


def scores_of(rows: list[dict[str, Any]], probe: Any, start: str) -> list[float]:
    """In the order of the seeds."""
    found = [row for row in rows if row["probe"] == probe and row["start"] == start]
    return [row["score"] for row in sorted(found, key=lambda row: row["seed"])]


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """The curve of the pretraining beside the guess without context, and the probes' scores."""
    probes = probes_of(rows)
    pretrained = [row for row in rows if row["part"] == "pretraining"]
    panels = len(pretrained) + len(probes)
    with picture(path, 1, panels, size=(1.4 + 2.6 * panels, 3.4), dpi=120) as axes:
        for panel, row in zip(axes[0], pretrained, strict=False):
            points = [tuple(map(float, point.split(":"))) for point in row["curve"].split()]
            panel.plot(*zip(*points, strict=True), "o-", label="4 × 256 from scratch")
            panel.axhline(row["unigram"], color="black", linestyle="--", label="best guess without context")
            panel.set(title="masked pieces, validation", xlabel="optimizer steps", ylabel="nats a token")
            panel.legend(frameon=False, fontsize=8)
        for panel, probe in zip(axes[0, len(pretrained) :], probes, strict=True):
            scores = {start: scores_of(rows, probe, start) for start in STARTS}
            draw_points(panel, scores, mean, f"{probe}, test")


if __name__ == "__main__":
    main()

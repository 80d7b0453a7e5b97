from __future__ import annotations

from collections import Counter
from math import log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertlab.callbacks.batch_size_warmup import BatchSizeWarmup
from bertlab.callbacks.data_order import DataOrder
from bertlab.callbacks.difficulty import difficulties
from bertlab.data.text_classification import TextClassificationData
from tests.callbacks.curriculum_data import pairs, pretraining, tagged, texts
from tests.callbacks.seen_batches import watch

pytestmark = pytest.mark.usefixtures("own_cache")


def competences(start: float, steps: int, total: int) -> list[float]:
    """The paper's square root, written once more."""
    return [min(1.0, sqrt(t * (1 - start**2) / steps + start**2)) for t in range(total)]


def test_short_rows_first_and_all_of_them_in_the_end(sources: Path, tmp_path: Path) -> None:
    data = texts(sources)
    task = watch([DataOrder("length", 0.2, fraction=0.5)], data, tmp_path, max_epochs=2)
    plain = watch([], texts(sources), tmp_path, max_epochs=2)
    lengths = np.sort(data.dataset("train").lengths)
    for micro, share in zip(task.seen[:12], competences(0.2, 12, 12), strict=True):
        assert len(micro.rows) == 16  # no row twice in a step
        assert micro.longest <= lengths[int(share * 192) - 1]
    assert task.seen[12:] == plain.seen[12:]
    drawn = Counter(row for micro in task.seen[:12] for row in micro.rows)
    assert max(drawn.values()) > 1


def test_rarity_is_that_of_the_tokens(sources: Path, tmp_path: Path) -> None:
    data = texts(sources)
    data.setup("fit")
    rows = [data.tokenizer(text)["input_ids"] for text in data.splits("train")["train"].texts]
    counts = Counter(token for ids in rows for token in ids)
    total = sum(counts.values())
    expected = [-sum(log(counts[token] / total) for token in ids) for ids in rows]
    assert difficulties("rarity", data) == pytest.approx(expected)
    task = watch([DataOrder("rarity", 0.2, 1.0)], texts(sources), tmp_path, max_epochs=1)
    hardest = sorted(expected)
    for micro, share in zip(task.seen, competences(0.2, 12, 12), strict=True):
        assert max(expected[row] for row in micro.rows) <= hardest[int(share * 192) - 1] + 1e-9


def test_scores_of_a_table(sources: Path, tmp_path: Path) -> None:
    table = tmp_path / "scores.csv"
    table.write_text("id,score\n" + "\n".join(f"{row},{-row}" for row in range(60)) + "\n")
    data = pairs(sources)
    task = watch([DataOrder(str(table), 0.25, 1.0, power=1.0)], data, tmp_path, max_epochs=1)
    ids = [int(row) for row in data.splits("train")["train"].ids]
    for step, micro in enumerate(task.seen):
        allowed = max(8, int(48 * (0.25 + 0.75 * step / 6)))
        assert min(ids[row] for row in micro.rows) >= sorted(ids, reverse=True)[allowed - 1]
    (tmp_path / "few.csv").write_text("id,score\n1,0.5\n")
    (tmp_path / "words.csv").write_text("id,score\n" + "".join(f"{row},high\n" for row in range(60)))
    for name, said in (
        ("few", "training rows have no score"),
        ("words", "column 'score' has to hold finite numbers, and holds 'high'"),
        ("no", "no file of"),
    ):
        with pytest.raises(ValueError, match=said):
            watch([DataOrder(str(tmp_path / f"{name}.csv"))], pairs(sources), tmp_path, max_steps=1)
    with pytest.raises(ValueError, match=r"data\.init_args\.id_column"):
        watch([DataOrder(str(table))], texts(sources), tmp_path, max_steps=1)


def scored(folder: Path, scores: list[str], **options: Any) -> Any:
    """60 texts with a column `grade`, in an order of their own; ids are the rows of the file."""
    lines = (folder / "pairs.csv").read_text().splitlines()
    rows = [f"{line},{score}" for line, score in zip(lines[1:], scores, strict=True)]
    file = folder / "scored.csv"
    file.write_text("\n".join([lines[0] + ",grade", *rows]) + "\n")
    return TextClassificationData(
        str(folder / "tokenizer"), str(file), text_column="one", id_column="id", batch_size=8, **options
    )


def test_a_column_beside_the_rows(sources: Path, tmp_path: Path) -> None:
    grades = [(7 * row) % 60 for row in range(60)]
    data = scored(sources, [str(grade) for grade in grades])
    task = watch([DataOrder("column:grade", 0.25, 1.0, power=1.0)], data, tmp_path, max_epochs=1)
    of_rows = [grades[int(row)] for row in data.splits("train")["train"].ids]
    assert difficulties("column:grade", data).tolist() == of_rows
    assert of_rows != sorted(of_rows)
    for step, micro in enumerate(task.seen):
        allowed = max(8, int(48 * (0.25 + 0.75 * step / 6)))
        assert max(of_rows[row] for row in micro.rows) <= sorted(of_rows)[allowed - 1]


@pytest.mark.parametrize(
    ("column", "bad", "said"),
    [
        (
            "mark",
            "1",
            r"scored.csv: no column 'mark' \(DataOrder.difficulty: mark\). The columns found .* grade",
        ),
        ("grade", "", r"scored.csv: column 'grade' has to hold finite numbers, and holds '' in rows 2, "),
        ("grade", "inf", r"column 'grade' has to hold finite numbers, and holds 'inf' in rows 2, "),
        ("one", "1", r"column 'one' has to hold finite numbers, and holds '.*' in rows 1?"),
    ],
)
def test_a_column_without_numbers_is_named(
    column: str, bad: str, said: str, sources: Path, tmp_path: Path
) -> None:
    data = scored(sources, ["2", *[bad] * 20, *["3"] * 39])
    with pytest.raises(ValueError, match=said):
        watch([DataOrder(f"column:{column}")], data, tmp_path, max_steps=1)


def test_tagged_sentences_take_no_column(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TypeError, match=r"'column:grade' is neither length nor rarity, and TokenClass.* takes no scores"
    ):
        watch([DataOrder("column:grade")], tagged(sources), tmp_path, max_steps=1)


def test_resampling_and_a_token_budget_hold(sources: Path, tmp_path: Path) -> None:
    data = texts(sources, batch_size=None, max_tokens=120, resampling_power=1.0)
    task = watch([DataOrder("length", 0.3, 1.0)], data, tmp_path, max_epochs=1, accumulate_grad_batches=2)
    used = Counter[int]()
    for micro in task.seen:
        used[micro.step] += sum(map(len, micro.rows.values()))
    assert max(used.values()) <= 120
    labels = data.dataset("train").labels
    assert labels is not None
    seen = torch.cat([labels[list(micro.rows)] for micro in task.seen])
    assert 0.35 < float(seen.float().mean()) < 0.65  # of one in five


def test_resumed_is_never_killed(sources: Path, tmp_path: Path) -> None:
    def made() -> list[Any]:
        return [DataOrder("rarity", 0.2, 0.8), BatchSizeWarmup(4, 0.5)]

    common: dict[str, Any] = {"max_epochs": 2, "accumulate_grad_batches": 2}
    whole = watch(made(), texts(sources), tmp_path, **common).seen
    for stop, workers in ((1, 0), (12, 0), (15, 2)):
        folder = tmp_path / str(stop)
        first = watch(made(), texts(sources), folder, stop=stop + 1, **common).seen
        data = texts(sources, num_workers=workers)
        second = watch(made(), data, folder, folder / f"step={stop}.ckpt", **common).seen
        assert [micro for micro in first if micro.step < stop] + second == whole


def test_what_cannot_be_followed_is_refused(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"DataOrder changes order.*PretrainingData cannot do"):
        watch([DataOrder()], pretraining(sources), tmp_path, max_steps=2)
    for arguments in ({"start_share": 1.0}, {"fraction": 0.0}, {"power": 0.0}):
        with pytest.raises(ValueError, match=f"DataOrder.{next(iter(arguments))}"):
            DataOrder(**arguments)


def test_rows_that_are_alike_have_no_order(sources: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat.csv"
    flat.write_text("id,score\n" + "".join(f"{row},1\n" for row in range(60)))
    with pytest.warns(UserWarning, match=r"by .*flat.csv all training rows are equally hard"):
        task = watch([DataOrder(str(flat))], pairs(sources), tmp_path, max_steps=3)
    assert task.seen == watch([], pairs(sources), tmp_path, max_steps=3).seen

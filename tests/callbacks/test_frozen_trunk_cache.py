"""The cache of the frozen part on a real tiny BERT: equal results, fewer runs, and nothing stale."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule

from bertlab.callbacks.frozen_trunk_cache import FrozenTrunkCache
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.strategy import Run, Strategy, TrainingPass
from bertlab.callbacks.unfreezing_plans import Stage
from bertlab.cli import main
from bertlab.data.text_classification import TextClassificationData
from bertlab.data.tokenised_texts import TokenisedTexts
from bertlab.encoders.from_config import EncoderFromConfig
from bertlab.encoders.pretrained import PretrainedEncoder
from tests.bits import assert_equal
from tests.callbacks.tiny import Timeline, TinyData, TinyTask, fit
from tests.callbacks.tiny_bert import STEPS, SaveEachStep, Seen, bert_data, bert_task, fit_bert, write_bert
from tests.ranks import on_two_ranks
from tests.system.tiny_project import write_project

D = 32
ROWS = 96


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(autouse=True)
def _cache(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTLAB_CACHE", str(project / "cache"))


def training_only(*blocks: str) -> StagedUnfreezing:
    return StagedUnfreezing(stages=[Stage(train=list(blocks))])


def stages() -> StagedUnfreezing:
    """The head for six steps, then the top layer for six, then all."""
    return StagedUnfreezing(
        stages=[
            Stage(train=["head"], until_step=6),
            Stage(train=["layer.1-head"], until_step=12),
            Stage(train=["all"]),
        ]
    )


def tokens(project: Path, *splits: str) -> int:
    data = bert_data(project)
    return sum(int(data.dataset(split).lengths.sum()) for split in splits)


def events(timeline: Timeline) -> list[tuple[int, str, dict[str, Any]]]:
    """What the cache has told of rows that it keeps, or does not: step, what, facts."""
    found = [(step, what, facts) for step, name, what, facts in timeline.events if name == "FrozenTrunkCache"]
    return [event for event in found if event[1] not in {"stage", "undone"}]


def assert_close(one: Seen, other: Seen, tolerance: float = 1e-5) -> None:
    """Equal losses and metrics up to rounding."""
    assert one.losses == pytest.approx(other.losses, abs=tolerance)
    assert len(one.validations) == len(other.validations)
    for found, expected in zip(one.validations, other.validations, strict=True):
        assert found["val/loss"] == pytest.approx(expected["val/loss"], abs=tolerance)


@pytest.mark.parametrize("pool", ["pooled", "first", "mean"])
def test_an_epoch_of_the_head_alone_runs_no_block(pool: Any, project: Path, tmp_path: Path) -> None:
    fitted = []
    for cached in ([], [FrozenTrunkCache()]):
        fitted.append(
            fit_bert([training_only("head"), *cached], tmp_path, project, task=bert_task(project, pool=pool))
        )
    (_, plain), (_, cached) = fitted
    assert_close(cached, plain)
    assert len(set(plain.losses)) > 10, "nothing was learnt"
    every = tokens(project, "train", "validation")
    # The sanity check's two batches of validation run before the cache stands; a row is tried for its width.
    sanity = tokens(project, "validation")
    assert plain.embedded == [every + sanity, every, every, 0]
    data = bert_data(project)
    tried = sum(int(data.dataset(split).lengths.min()) for split in ("train", "validation"))
    assert cached.embedded == [every + sanity + tried, 0, 0, 0]


@pytest.mark.parametrize(
    ("trained", "frozen"), [(["pooler", "head"], 3), (["layer.1-head"], 2), (["layer.0-head"], None)]
)
def test_with_something_above_trained(
    trained: list[str], frozen: int | None, project: Path, tmp_path: Path
) -> None:
    timeline = Timeline()
    found = []
    for cached in ([], [FrozenTrunkCache()]):
        _, seen = fit_bert([training_only(*trained), *cached], tmp_path, project, before=(timeline,))
        found.append(seen)
    assert_close(found[1], found[0])
    if frozen is None:  # only the embeddings are frozen, which are computed as fast as they are read
        assert events(timeline) == []
        assert found[1].embedded == found[0].embedded
        return
    ((_, what, event),) = events(timeline)
    assert what == "cached"
    vectors = tokens(project, "train") if frozen == 2 else ROWS
    names = ["embeddings", "layer.0", "layer.1"][:frozen]
    assert event == {"blocks": names, "rows": ROWS, "of": ROWS, "mib": round(vectors * D * 4 / 2**20, 1)}
    assert found[1].embedded[1:] == [0, 0, 0]


def test_dropout_above_the_frozen_part_is_that_of_a_run_without_it(project: Path, tmp_path: Path) -> None:
    """The head's dropout of 0.1, and that of the trained layer, draw the same masks: losses agree to rounding."""
    seen = [
        fit_bert(
            [training_only("layer.1-head"), *cached], tmp_path, project, task=bert_task(project, dropout=0.5)
        )
        for cached in ([], [FrozenTrunkCache()])
    ]
    assert_close(seen[0][1], seen[1][1])


def test_stages_drop_what_no_longer_holds(project: Path, tmp_path: Path) -> None:
    timeline, found = Timeline(), []
    for cached in ([], [FrozenTrunkCache(minimum_epochs=1.0)]):
        found.append(fit_bert([stages(), *cached], tmp_path, project, before=(timeline,)))
    assert_close(found[1][1], found[0][1], 1e-4)
    assert [(step, what, len(facts["blocks"])) for step, what, facts in events(timeline)] == [
        (0, "cached", 4),
        (6, "cached", 2),
    ]
    assert found[1][1].embedded[2] > tokens(project, "train"), "the last stage trains everything"


def test_weights_that_a_stage_has_changed_are_not_those_that_were_kept(project: Path, tmp_path: Path) -> None:
    """Chain-thaw: the same blocks are frozen in stages 0 and 2, with other weights."""
    thaw = [
        Stage(train=["head"], until_step=6),
        Stage(train=["layer.0"], until_step=12),
        Stage(train=["head"]),
    ]
    timeline, found = Timeline(), []
    for cached in ([], [FrozenTrunkCache(minimum_epochs=0)]):
        strategies = [StagedUnfreezing(stages=thaw, restore_best="val/loss"), *cached]
        found.append(fit_bert(strategies, tmp_path, project, before=(timeline,)))
    assert_close(found[1][1], found[0][1], 1e-4)
    assert [(step, what, len(facts["blocks"])) for step, what, facts in events(timeline)] == [
        (0, "cached", 4),
        (12, "cached", 4),
    ]


@pytest.mark.parametrize("arguments", [{"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}])
def test_killed_and_resumed_is_never_killed(arguments: dict[str, Any], project: Path, tmp_path: Path) -> None:
    def run(**more: Any) -> tuple[Any, Seen, Timeline]:
        timeline = Timeline()
        more["before"] = (timeline, *more.get("before", ()))
        strategies = [stages(), FrozenTrunkCache(minimum_epochs=1.0)]
        return *fit_bert(strategies, tmp_path, project, **arguments, **more), timeline

    whole = run(before=(SaveEachStep(),), enable_checkpointing=True)
    for step in (2, 6, 9):
        resumed = run(ckpt_path=tmp_path / f"step={step}.ckpt", enable_checkpointing=True)
        assert_equal(dict(resumed[0].state_dict()), dict(whole[0].state_dict()), f"weights after {step}")
        assert resumed[1].losses == whole[1].losses[step:]
        assert resumed[1].validations == whole[1].validations[-len(resumed[1].validations) :]
        later = [event for event in whole[2].events if event[0] >= step]
        assert resumed[2].events == later, f"events after {step}"
    kept = torch.load(tmp_path / "step=9.ckpt", weights_only=True)["callbacks"]["FrozenTrunkCache"]
    assert sorted(kept) == ["entered", "has_kept", "told", "trigger"]


@pytest.mark.parametrize(
    ("arguments", "tolerance"), [({"precision": "bf16-mixed"}, 0.02), ({"accumulate_grad_batches": 2}, 1e-5)]
)
@pytest.mark.parametrize("bfloat16", [False, True])
def test_precisions_and_micro_batches(
    arguments: dict[str, Any], tolerance: float, bfloat16: bool, project: Path, tmp_path: Path
) -> None:
    for trained in (["head"], ["layer.1-head"]):
        found = []
        for cached in ([], [FrozenTrunkCache(bfloat16=bfloat16)]):
            found.append(fit_bert([training_only(*trained), *cached], tmp_path, project, **arguments)[1])
        assert_close(found[1], found[0], 0.02 if bfloat16 else tolerance)
        assert found[1].embedded[1] == 0


def test_rows_beyond_the_budget_are_computed_each_time(project: Path, tmp_path: Path) -> None:
    for trained, room in (("head", 40 * D * 4), ("layer.1-head", 500 * D * 4)):
        timeline, found = Timeline(), []
        for cached in ([], [FrozenTrunkCache(max_gib=room / 2**30)]):
            found.append(
                fit_bert([training_only(trained), *cached], tmp_path, project, before=(timeline,))[1]
            )
        assert_close(found[1], found[0])
        ((_, _, event),) = events(timeline)
        assert 20 < event["rows"] < ROWS
        assert tokens(project, "train") > found[1].embedded[1] > 100


class Perturb(Strategy):
    """Perturbs, as it says it does."""

    touches: ClassVar[set[str]] = {"loss", "inputs"}

    def __init__(self, change: Callable[[TrainingPass], torch.Tensor]) -> None:
        self.change = change

    def apply(self, run: Run) -> None:
        run.wrap_loss(self.change)


class PerturbUnsaid(Perturb):
    """Perturbs, and does not say so."""

    touches: ClassVar[set[str]] = {"loss"}


def perturb_embeddings(p: TrainingPass) -> torch.Tensor:
    return p.loss(embeddings=lambda vectors, _: vectors * 1.5)


def perturb_all_weights(p: TrainingPass) -> torch.Tensor:
    return p.loss(weights=lambda _, value: value * 1.5)


def perturb_trained_weights(p: TrainingPass) -> torch.Tensor:
    return p.loss(weights=lambda parameter, value: value * 1.5 if parameter.requires_grad else value)


def test_a_strategy_that_perturbs_the_frozen_part_is_refused_by_name(project: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"FrozenTrunkCache keeps what .* and Perturb makes it differ"):
        fit_bert([training_only("head"), Perturb(perturb_embeddings), FrozenTrunkCache()], tmp_path, project)


@pytest.mark.parametrize(
    ("change", "known"),
    [(perturb_embeddings, False), (perturb_all_weights, False), (perturb_trained_weights, True)],
)
def test_what_the_frozen_part_does_not_give_is_never_taken_for_it(
    change: Any, known: bool, project: Path, tmp_path: Path
) -> None:
    found = []
    for cached in ([], [FrozenTrunkCache()]):
        strategies = [training_only("head"), PerturbUnsaid(change), *cached]
        found.append(fit_bert(strategies, tmp_path, project)[1])
    if not known:
        assert found[1].losses == found[0].losses
    assert_close(found[1], found[0])
    assert found[1].embedded[1] == (0 if known else tokens(project, "train"))


class GradientsOfAll(Callback):
    """Asks for gradients by everything in the middle of a stage, as the Fisher information does."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        parameters = [p for p in pl_module.encoder.parameters() if not p.requires_grad]
        modes = {module: module.training for module in pl_module.modules()}
        pl_module.eval().requires_grad_(True)
        gradients = torch.autograd.grad(pl_module.training_loss(batch), parameters, allow_unused=True)
        for parameter in parameters:
            parameter.requires_grad_(False)
        for module, mode in modes.items():
            module.training = mode
        self.norms.append(sum(float(g.norm()) for g in gradients if g is not None))


def test_gradients_by_frozen_blocks_are_those_of_the_whole_model(project: Path, tmp_path: Path) -> None:
    found = []
    for cached in ([], [FrozenTrunkCache()]):
        wanted = GradientsOfAll()
        strategies = [training_only("head"), *cached]
        fit_bert(strategies, tmp_path, project, before=(wanted,), max_epochs=2)
        found.append(wanted.norms)
    assert min(found[0][1:]) > 0.01  # in the very first step nothing is frozen yet
    assert found[1] == pytest.approx(found[0], rel=1e-3)


class OtherWeightsInValidation(Callback):
    """As an average of weights does: other ones stand in the model during validations."""

    def __init__(self, data: bool) -> None:
        self.data, self.kept = data, torch.empty(0)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self.kept = pl_module.word_embedding.weight.detach().clone()
        self.copy(pl_module, self.kept.flip(0))

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.copy(pl_module, self.kept)

    def copy(self, module: Any, weights: torch.Tensor) -> None:
        with torch.inference_mode(False), torch.no_grad():
            weight = module.word_embedding.weight
            (weight.data if self.data else weight).copy_(weights.clone())


@pytest.mark.parametrize("data", [False, True])
def test_a_validation_of_other_weights_is_computed(data: bool, project: Path, tmp_path: Path) -> None:
    found = []
    for cached in ([], [FrozenTrunkCache()]):
        strategies = [training_only("head"), *cached]
        before = (OtherWeightsInValidation(data),)
        found.append(fit_bert(strategies, tmp_path, project, before=before, val_check_interval=3)[1])
    assert_close(found[1], found[0])
    # Two validations an epoch.
    assert found[1].embedded[1:] == [2 * tokens(project, "validation")] * 2 + [0]


class ChangeATokenOfTheFirstRow(Callback):
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        batch.input_ids[1] = 6 + batch_idx


def test_an_augmented_row_is_computed(project: Path, tmp_path: Path) -> None:
    found = []
    for cached in ([], [FrozenTrunkCache()]):
        strategies = [training_only("head"), *cached]
        found.append(fit_bert(strategies, tmp_path, project, before=(ChangeATokenOfTheFirstRow(),))[1])
    assert_close(found[1], found[0])
    longest = int(bert_data(project).dataset("train").lengths.max())
    assert STEPS <= found[1].embedded[1] <= STEPS * longest


class Curriculum(TextClassificationData):
    """Texts of five tokens in the first epoch, then whole ones."""

    def dataset(self, name: str) -> TokenisedTexts:
        whole = super().dataset(name)
        if name != "train" or self.trainer is None or self.trainer.current_epoch > 0:
            return whole
        lengths = np.minimum(whole.lengths, 5)
        ids = [whole.input_ids[start : start + n] for start, n in zip(whole.offsets, lengths, strict=False)]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return TokenisedTexts(np.concatenate(ids), offsets, None, 0, whole.labels.numpy())


def test_rows_of_another_length_are_filled_anew(project: Path, tmp_path: Path) -> None:
    found = []
    for cached in ([], [FrozenTrunkCache()]):
        data = bert_data(project, Curriculum)
        strategies = [training_only("head"), *cached]
        found.append(
            fit_bert(strategies, tmp_path, project, data=data, reload_dataloaders_every_n_epochs=1)[1]
        )
    assert_close(found[1], found[0])
    tried = sum(int(bert_data(project).dataset(split).lengths.min()) for split in ("train", "validation"))
    assert found[1].embedded[1] == tokens(project, "train", "validation") + tried
    assert found[1].embedded[2:] == [0, 0]


def test_a_short_stage_is_not_worth_it(
    project: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """Said before training, and once."""
    timeline = Timeline()
    _, seen = fit_bert([stages(), FrozenTrunkCache()], tmp_path, project, before=(timeline,))
    told = events(timeline)
    reason = "the stage lasts 1.00 epochs, less than minimum_epochs"
    assert told[0] == (
        0,
        "not_cached",
        {"blocks": ["embeddings", "layer.0", "layer.1", "pooler"], "because": reason},
    )
    assert [what for _, what, _ in told] == ["not_cached", "not_cached"]
    said = [str(w.message) for w in recwarn if "FrozenTrunkCache" in str(w.message)]
    assert said == [
        "FrozenTrunkCache would do nothing in this training: the longest stage of StagedUnfreezing with frozen lower "
        "blocks lasts 1.00 epochs, less than minimum_epochs 1.5"
    ]
    (undone,) = [facts for _, _, what, facts in timeline.events if what == "undone"]
    assert undone["instead"].startswith("What was frozen (the last time because the stage lasts 1.00 epochs")
    assert min(seen.embedded[:-1]) >= tokens(project, "train")


LENGTHS: dict[str, tuple[list[Stage], float, str | None]] = {
    "long enough": ([Stage(["head"], until_epoch=1.5), Stage(["all"])], 1.5, None),
    "too short": ([Stage(["head"], until_epoch=1.5), Stage(["all"])], 1.6, "lasts 1.50 epochs, less than"),
    "beyond the end": (
        [Stage(["head"], until_step=1000), Stage(["all"])],
        3.1,
        "lasts 3.00 epochs, less than",
    ),
    "until the end": ([Stage(["head"])], 3.0, None),
    "the second": ([Stage(["head"], until_epoch=0.5), Stage(["layer.1-head"])], 2.5, None),
    "only the first": (
        [Stage(["head"], until_epoch=0.5), Stage(["layer.0-head"])],
        2.5,
        "lasts 0.50 epochs, less than",
    ),
    "embeddings alone": ([Stage(["layer.0-head"])], 0.0, "no stage of StagedUnfreezing freezes lower blocks"),
    "nothing": ([Stage(["all"])], 0.0, "no stage of StagedUnfreezing freezes lower blocks"),
    "a plateau": ([Stage(["head"], until_plateau="val/loss"), Stage(["all"])], 9.0, None),
}


@pytest.mark.parametrize(("stages", "minimum", "message"), LENGTHS.values(), ids=LENGTHS)
def test_stages_that_are_not_worth_it_are_foretold(
    stages: list[Stage],
    minimum: float,
    message: str | None,
    project: Path,
    tmp_path: Path,
    recwarn: pytest.WarningsRecorder,
) -> None:
    """Exactly where nothing is kept, of stages whose length is known."""
    timeline = Timeline()
    strategies = [StagedUnfreezing(stages=stages), FrozenTrunkCache(minimum_epochs=minimum)]
    fit_bert(strategies, tmp_path, project, before=(timeline,))
    said = [str(w.message) for w in recwarn if "FrozenTrunkCache would do nothing" in str(w.message)]
    assert len(said) == (message is not None)
    assert message is None or message in said[0]
    assert ("cached" in {what for _, what, _ in events(timeline)}) == (message is None)


def test_what_the_user_has_frozen_counts(
    project: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """The stage names all blocks; the lower ones were frozen before, so there is something to keep."""
    task, timeline = bert_task(project), Timeline()
    for block in task.encoder_blocks()[:2]:
        for parameter in block.parameters():
            parameter.requires_grad_(False)
    strategies = [StagedUnfreezing(stages=[Stage(["all"])]), FrozenTrunkCache()]
    fit_bert(strategies, tmp_path, project, task=task, before=(timeline,))
    assert not [w for w in recwarn if "FrozenTrunkCache would do nothing" in str(w.message)]
    assert [what for _, what, _ in events(timeline)] == ["cached"]


def test_limited_batches(project: Path, tmp_path: Path) -> None:
    """An epoch of two batches is a third of a pass; a validation of one batch does not pay for all of them."""
    timeline = Timeline()
    arguments = {"limit_train_batches": 2, "limit_val_batches": 1, "max_epochs": 6}
    strategies = [training_only("head"), FrozenTrunkCache(minimum_epochs=2.1)]
    fit_bert(strategies, tmp_path, project, before=(timeline,), **arguments)
    ((_, _, facts),) = events(timeline)
    assert facts["because"] == "the stage lasts 2.00 epochs, less than minimum_epochs"
    strategies = [training_only("head"), FrozenTrunkCache(minimum_epochs=2.0)]
    _, seen = fit_bert(strategies, tmp_path, project, **arguments)
    assert seen.embedded[1:] == [seen.embedded[1]] * 5 + [0]
    assert 0 < seen.embedded[1] <= tokens(project, "validation")


class NoFileIsSeen(Callback):
    def __init__(self) -> None:
        self.steps = 0

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.steps += 1
        assert list(Path(trainer.default_root_dir).glob(".trunk_cache*")) == []


def test_no_file_is_left_of_this_run_or_of_one_that_was_killed(project: Path, tmp_path: Path) -> None:
    (tmp_path / ".trunk_cache-0-validation.bin").write_bytes(b"left")
    watch = NoFileIsSeen()
    task, _ = fit_bert([training_only("head"), FrozenTrunkCache()], tmp_path, project, before=(watch,))
    assert watch.steps == 3 * STEPS
    assert list(tmp_path.iterdir()) == []
    assert task.known_trunk is None


class Stop(Callback):
    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        raise RuntimeError("stopped")


def test_nothing_is_kept_after_an_error(project: Path, tmp_path: Path) -> None:
    task, cache = bert_task(project), FrozenTrunkCache()
    with pytest.raises(RuntimeError, match="stopped"):
        fit_bert([training_only("head"), cache], tmp_path, project, task=task, before=(Stop(),))
    assert task.known_trunk is None
    assert list(tmp_path.iterdir()) == []


class Work(Callback):
    def __init__(self) -> None:
        self.shown: list[tuple[str, int, int]] = []

    def show_work(self, what: str, done: int, total: int) -> None:
        self.shown.append((what, done, total))


def test_filling_is_shown(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertlab.callbacks.trunk_filling.FILL_TOKENS", 300)
    work = Work()
    fit_bert([training_only("head"), FrozenTrunkCache()], tmp_path, project, before=(work,))
    total = work.shown[0][2]
    assert total >= 4
    assert work.shown[:total] == [("Frozen trunk, train", n, total) for n in range(1, total + 1)]
    assert {what for what, *_ in work.shown[total:]} == {"Frozen trunk, validation"}


def distilbert(project: Path) -> EncoderFromConfig:
    torch.manual_seed(0)
    vocabulary = PretrainedEncoder(str(project / "model")).vocabulary_size
    sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 64}
    return EncoderFromConfig("distilbert", {"vocab_size": vocabulary, **sizes})


def test_an_encoder_that_cannot_be_divided_is_cached_as_a_whole(project: Path, tmp_path: Path) -> None:
    for trained, cached in (("head", True), ("layer.1-head", False)):
        found, timeline = [], Timeline()
        for strategies in ([training_only(trained)], [training_only(trained), FrozenTrunkCache()]):
            task = bert_task(project, encoder=distilbert(project))
            if len(strategies) == 1:
                found.append(fit_bert(strategies, tmp_path, project, task=task)[1])
                continue
            with pytest.warns(UserWarning, match="this encoder cannot be divided between its layers"):
                found.append(fit_bert(strategies, tmp_path, project, task=task, before=(timeline,))[1])
        assert_close(found[1], found[0])
        assert [what for _, what, _ in events(timeline)] == ["cached" if cached else "not_cached"]
        assert (found[1].embedded[1] == 0) == cached


class NoTrunk(LightningModule):
    """Tells its blocks, and cannot be run in two parts."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = TinyTask()
        self.blocks, self.encoder_blocks = self.inner.blocks, self.inner.encoder_blocks
        self.configure_optimizers = self.inner.configure_optimizers

    def training_step(self, batch: Any, batch_idx: int) -> None: ...


class NoRows(LightningDataModule):
    def train_dataloader(self) -> Any:
        return TinyData().train_dataloader()


@pytest.mark.parametrize(
    ("task", "data", "message"),
    [
        (NoTrunk, TinyData, r"can be run in two parts.*NoTrunk has no trunk\(batch, blocks\)"),
        (TinyTask, NoRows, r"needs data whose rows it can read.*NoRows has no dataset\(name\)"),
    ],
)
def test_a_task_or_data_that_it_cannot_work_with_is_refused(
    task: Any, data: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(TypeError, match=message):
        fit([training_only("head"), FrozenTrunkCache()], tmp_path, task=task(), data=data())


def test_without_anything_frozen_it_says_that_it_does_nothing(project: Path, tmp_path: Path) -> None:
    with pytest.warns(
        UserWarning, match="FrozenTrunkCache would do nothing.*no other strategy freezes blocks"
    ):
        fit_bert([FrozenTrunkCache()], tmp_path, project, max_epochs=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_gib": 0}, "FrozenTrunkCache.max_gib takes a number of GiB above 0, got 0"),
        ({"max_gib": float("inf")}, "got inf"),
        (
            {"minimum_epochs": -1},
            "FrozenTrunkCache.minimum_epochs takes 0 epochs or more, got -1",
        ),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrozenTrunkCache(**arguments)


def test_on_the_command_line(in_tmp: Path) -> None:
    fragment = Path(__file__).parents[2] / "configs" / "callbacks" / "frozen_trunk_cache.yaml"
    unfreezing = "bertlab.callbacks.staged_unfreezing.StagedUnfreezing"
    stages = [{"train": ["pooler", "head"], "until_epoch": 2}, {"train": ["all"]}]
    callbacks = [{"class_path": unfreezing, "init_args": {"stages": stages}}]
    config = str(write_project(in_tmp, callbacks=callbacks, enable_progress_bar=True))
    results = []
    for name, added in (("plain", []), ("cached", [f"--trainer.callbacks+={fragment}"])):
        main(["fit", "--config", config, *added, "--run.name", name])
        results.append(json.loads((in_tmp / "runs" / name / "0" / "results.json").read_text())["test"])
    assert results[1]["loss"] == pytest.approx(results[0]["loss"], rel=1e-3)
    lines = (in_tmp / "runs/cached/0/timeline.jsonl").read_text().splitlines()
    told = [event for event in map(json.loads, lines) if event["what"] in ("cached", "not_cached")]
    assert [(event["step"], event["facts"]["blocks"]) for event in told] == [
        (0, ["embeddings", "layer.0", "layer.1"])
    ]


@pytest.mark.gpu
@pytest.mark.parametrize("trained", ["head", "layer.1-head"])
def test_on_cuda(trained: str, project: Path, tmp_path: Path) -> None:
    found = []
    for cached in ([], [FrozenTrunkCache(max_gib=600 * D * 4 / 2**30)]):
        strategies = [training_only(trained), *cached]
        task = bert_task(project, dropout=0.0, encoder=PretrainedEncoder(str(project / "model"), 0.0, 0.0))
        found.append(fit_bert(strategies, tmp_path, project, task=task, accelerator="gpu")[1])
    assert_close(found[1], found[0], 1e-3)
    assert found[1].embedded[1] < found[0].embedded[1]


def on_a_rank(project: Path, root: Path, trained: list[str]) -> dict[str, Any]:
    found = {}
    for name in trained:
        task, seen = fit_bert(
            [training_only(name), FrozenTrunkCache()],
            root,
            project,
            task=bert_task(project, dropout=0.0, encoder=PretrainedEncoder(str(project / "model"), 0.0, 0.0)),
            devices=2,
            strategy="ddp",
        )
        found[name] = (dict(task.state_dict()), seen.losses, seen.validations, seen.embedded)
    return found


def test_two_ranks_share_the_work_and_do_what_one_does(project: Path, tmp_path: Path) -> None:
    trained = ["head", "layer.1-head"]
    ranks = on_two_ranks(on_a_rank, tmp_path, project, tmp_path, trained)
    for name in trained:
        assert_equal(ranks[0][name][0], ranks[1][name][0], name)
        encoder = PretrainedEncoder(str(project / "model"), 0.0, 0.0)
        _, seen = fit_bert(
            [training_only(name), FrozenTrunkCache()],
            tmp_path,
            project,
            task=bert_task(project, dropout=0.0, encoder=encoder),
        )
        assert ranks[0][name][1] == pytest.approx(seen.losses, abs=1e-4)
        assert ranks[0][name][2][-1]["val/loss"] == pytest.approx(seen.validations[-1]["val/loss"], abs=1e-4)
        for rank in ranks:
            assert rank[name][3][1:] == [0, 0, 0]
    assert not list(tmp_path.glob(".trunk_cache*"))


class FreezesEncoder(Callback):
    """As one's own code would, with or without evaluation mode."""

    def __init__(self, evaluate: bool) -> None:
        self.evaluate = evaluate

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        for block in pl_module.encoder_blocks():
            for module in block.modules:
                module.requires_grad_(False).train(not self.evaluate)


def test_what_ones_own_code_has_frozen_is_kept_without_another_strategy(
    project: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    timeline, found = Timeline(), []
    for cached in ([], [FrozenTrunkCache()]):
        before = (timeline, FreezesEncoder(evaluate=True))
        found.append(fit_bert(list(cached), tmp_path, project, before=before)[1])
    assert_close(found[1], found[0])
    assert [(what, facts["rows"]) for _, what, facts in events(timeline)] == [("cached", ROWS)]
    assert found[1].embedded[1:] == [0, 0, 0]
    assert not [str(warning.message) for warning in recwarn if "FrozenTrunkCache" in str(warning.message)]
    assert "undone" not in {what for _, _, what, _ in timeline.events}


@pytest.mark.parametrize(
    ("before", "why"),
    [
        (
            (FreezesEncoder(evaluate=False),),
            "no other strategy freezes .* frozen before are in training mode",
        ),
        ((), "nothing is frozen, and no other strategy freezes blocks"),
    ],
)
def test_why_it_would_do_nothing_alone_is_said(
    before: tuple[Callback, ...], why: str, project: Path, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match=f"FrozenTrunkCache would do nothing in this training: {why}"):
        fit_bert([FrozenTrunkCache()], tmp_path, project, before=before, max_epochs=1)

"""Random combinations of strategies with random arguments: the table of arguments is here, and nowhere else."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path
from typing import Any

import peft
from hypothesis import strategies as st

from bertlab.callbacks.strategy import Strategy
from bertlab.callbacks.unfreezing_plans import Stage
from tests.callbacks.contract.fragments import FRAGMENTS, clash, content
from tests.callbacks.contract.grounds import Ground

#: What a strategy is made of: its fragment, which says the class, and its arguments.
Part = tuple[Path, dict[str, Any]]

Arguments = st.SearchStrategy[dict[str, Any]]


def numbers(least: float, most: float) -> st.SearchStrategy[float]:
    """A hundred numbers, ends included, so that examples are short to read."""
    return st.integers(0, 100).map(lambda n: round(least + (most - least) * n / 100, 6))


def keys(**values: st.SearchStrategy[Any]) -> Arguments:
    return st.fixed_dictionaries(values)


def one_of(**values: st.SearchStrategy[Any]) -> Arguments:
    """One of these arguments, or none."""
    return st.one_of(st.just({}), *(keys(**{name: value}) for name, value in values.items()))


def both(*parts: Arguments) -> Arguments:
    return st.tuples(*parts).map(lambda found: {key: value for part in found for key, value in part.items()})


STARTS = one_of(start_fraction=numbers(0, 0.9), start_epoch=numbers(0, 3), start_step=st.integers(0, 20))
AT = st.one_of(
    keys(at=st.sampled_from(["epoch", "cycle"])), keys(at=st.just("steps"), every_steps=st.integers(1, 7))
)
ENDS = one_of(
    stage_steps=st.integers(1, 8),
    stage_epochs=numbers(0.3, 2),
    stage_fraction=numbers(0.05, 0.5),
    plateau=st.just("val/loss"),
    spread_fraction=numbers(0.1, 1),
)
PLANS = st.one_of(
    keys(plan=st.just("gradual"), blocks_per_stage=st.integers(1, 3)),
    keys(plan=st.just("top_k"), top=st.integers(0, 4)),
    keys(plan=st.just("chain_thaw")),
)
RESTARTS = both(
    keys(peak_decay=numbers(0.3, 1), warmup_fraction=numbers(0, 0.9), minimum_factor=numbers(0, 1)),
    st.one_of(
        both(
            keys(multiplier=numbers(1, 2)),
            st.one_of(
                keys(cycle_steps=st.integers(1, 12)),
                keys(cycle_epochs=numbers(0.3, 3)),
                keys(cycle_fraction=numbers(0.1, 1)),
            ),
        ),
        keys(at=st.just("stage"), cycle_fraction=numbers(0.1, 1)),
        keys(at=st.just("plateau"), plateau=st.just("val/loss"), cycle_steps=st.integers(1, 9)),
    ),
)
CHILDREN = st.one_of(
    keys(mode=st.just("task_free"), share=numbers(0.1, 1)),
    keys(
        mode=st.just("task_driven"),
        share=numbers(0.1, 1),
        fisher_steps=st.one_of(st.none(), st.integers(1, 3)),
    ),
)

PRIVACY = both(
    st.one_of(keys(target_epsilon=numbers(2, 20)), keys(noise_multiplier=numbers(0.3, 2))),
    keys(delta=st.sampled_from([1e-5, 1e-3]), max_gradient_norm=numbers(0.1, 2)),
)
#: In all of them some steps are left in which ranks can be taken.
ADAPTIVE = keys(
    initial_rank=st.integers(5, 8),
    target_rank=st.integers(1, 4),
    alpha=st.integers(1, 32),
    dropout=numbers(0, 0.5),
    warmup_fraction=numbers(0, 0.4),
    final_fraction=numbers(0, 0.4),
    interval_steps=st.integers(1, 4),
    score_decay=numbers(0.1, 0.99),
    deviation_decay=numbers(0.1, 0.99),
    orthogonality=numbers(0, 1),
)
LORA = keys(
    config=st.builds(
        peft.LoraConfig,
        r=st.integers(1, 8),
        lora_alpha=st.integers(1, 32),
        lora_dropout=numbers(0, 0.5),
        use_rslora=st.booleans(),
        target_modules=st.just("all-linear"),
    )
)
ORDER = keys(
    difficulty=st.sampled_from(["length", "rarity"]),
    start_share=numbers(0.05, 0.95),
    fraction=numbers(0.05, 1),
    power=numbers(0.5, 4),
)
LENGTH = both(
    keys(start_length=st.integers(4, 40), fraction=numbers(0.05, 1), multiple=st.integers(1, 16)),
    one_of(end_length=st.integers(40, 60)),
)
MASKS = keys(start_rate=numbers(0.2, 0.9), end_rate=numbers(0.05, 0.19), fraction=numbers(0.05, 1))


def stages_by_hand(ground: type[Ground]) -> Arguments:
    """One of its stages may freeze again what was trained."""
    top = ground.layers - 1
    names = ["head", "pooler", f"layer.{top - 1}-head", f"layer.{top - 1}-layer.{top}", "embeddings", "all"]
    blocks = st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)
    return st.tuples(blocks, blocks, blocks, st.integers(1, 9), st.integers(1, 9)).map(
        lambda found: {
            "stages": [
                Stage(found[0], until_step=found[3]),
                Stage(found[1], until_step=found[3] + found[4], lr_factor=0.5),
                Stage(found[2]),
            ]
        }
    )


def class_weights(ground: type[Ground]) -> Arguments:
    return both(
        st.one_of(
            keys(weights=st.sampled_from(["balanced", "inverse_sqrt"])),
            keys(weights=st.just("effective_number"), beta=numbers(0.1, 0.99)),
            keys(
                weights=st.just("costs"),
                costs=st.fixed_dictionaries(dict.fromkeys(ground.classes, numbers(0.1, 4))),
            ),
        ),
        STARTS,
        keys(anneal_fraction=numbers(0, 1)),
    )


def table(ground: type[Ground]) -> dict[str, Arguments]:
    """The valid arguments of each class that can be used on it."""
    rows = {
        "AdaptiveRankAdapters": ADAPTIVE,
        "AdversarialWeights": keys(gamma=numbers(0.001, 0.05), start_fraction=numbers(0, 0.9)),
        "AutoFreeze": keys(interval_fraction=numbers(0.05, 0.4), percentile=numbers(0, 100)),
        "BatchSizeWarmup": keys(start_size=st.integers(4, ground.batch + 1), fraction=numbers(0.05, 1)),
        "BitFit": keys(),
        "ChildTuning": CHILDREN,
        "CostWeightedLoss": class_weights(ground),
        "DataOrder": ORDER,
        "ExponentialAverage": both(
            keys(decay=numbers(0, 0.99), warm_up=st.booleans(), every_steps=st.integers(1, 5)), STARTS
        ),
        "FastGradient": keys(epsilon=numbers(0.1, 2), weight=numbers(0.1, 2)),
        "FreeLB": keys(
            ascent_steps=st.integers(2, 3), step_size=numbers(0.01, 0.5), epsilon=numbers(0.01, 1)
        ),
        "FrozenTrunkCache": keys(minimum_epochs=numbers(0, 2)),
        "GradientSurgery": keys(),
        "L2Sp": keys(alpha=numbers(0, 0.5), beta=numbers(0, 0.5)),
        "LatestAverage": both(keys(last=st.integers(2, 4)), AT, STARTS),
        "LayerDrop": keys(p=numbers(0, 0.9)),
        "LowRankAdapters": LORA,
        "LrRestarts": RESTARTS,
        "MaskRateSchedule": MASKS,
        "Mixout": keys(p=numbers(0, 0.9)),
        "NeftuneNoise": keys(alpha=numbers(0, 10)),
        "PrivateTraining": PRIVACY,
        "RDrop": keys(alpha=numbers(0, 5)),
        "ReinitTopLayers": keys(layers=st.integers(0, ground.layers), pooler=st.booleans()),
        "SequenceLengthWarmup": LENGTH,
        "SharpnessAware": keys(
            rho=numbers(0.01, 0.5), adaptive=st.booleans(), start_fraction=numbers(0, 0.9)
        ),
        "StagedUnfreezing": st.one_of(
            both(
                PLANS,
                ENDS,
                keys(lr_decay=numbers(0.5, 1), restore_best=st.sampled_from([None, None, "val/loss"])),
            ),
            stages_by_hand(ground),
        ),
        "StochasticAverage": both(AT, STARTS),
    }
    return {name: row for name, row in rows.items() if name not in ground.left_out}


def class_of(fragment: Path) -> type[Strategy]:
    module, _, name = content(fragment)["class_path"].rpartition(".")
    return getattr(importlib.import_module(module), name)


def made(part: Part) -> Strategy:
    """A new strategy."""
    fragment, arguments = part
    return class_of(fragment)(**arguments)


def without_dropout(part: Part) -> Part:
    """The same without dropout of its own, whose masks differ between ranks."""
    fragment, arguments = part
    changed = copy.deepcopy(arguments)
    if "dropout" in changed:
        changed["dropout"] = 0.0
    if "config" in changed:
        changed["config"].lora_dropout = 0.0
    return fragment, changed


def clashes(parts: list[Part]) -> bool:
    """Whether two of them are to be refused together."""
    found = [made(part) for part in parts]
    return any(clash(one, other) for i, one in enumerate(found) for other in found[:i])


def combinations(ground: type[Ground]) -> st.SearchStrategy[list[Part]]:
    """Three to five strategies; four times in five such as go together."""
    rows = table(ground)
    usable = [fragment for fragment in FRAGMENTS if class_of(fragment).__name__ in rows]

    @st.composite
    def draw_parts(draw: st.DrawFn) -> list[Part]:
        size, together = draw(st.integers(3, 5)), draw(st.integers(0, 4)) > 0
        chosen: list[Part] = []
        for fragment in draw(st.permutations(usable)):
            part: Part = (fragment, draw(rows[class_of(fragment).__name__]))
            if not together or not clashes([*chosen, part]):
                chosen.append(part)
            if len(chosen) == size:
                break
        return chosen

    return draw_parts()

"""The arguments that strategies are drawn with: the table of them is here, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import peft
from hypothesis import strategies as st

from bertlab.callbacks.unfreezing_plans import Stage
from tests.callbacks.contract.grounds import Ground, Texts, Vectors

Arguments = st.SearchStrategy[dict[str, Any]]

#: Arguments that no combination is drawn with, by class and name, and why.
LEFT_OUT: Mapping[tuple[str, str], str] = {
    ("CostWeightedLoss", "tasks"): "of several tasks in one, and the classes of the data are of one",
    ("PrivateTraining", "secure"): "with it a resumed run goes on with other numbers",
}

#: What adapters may stand beside, besides every linear layer.
TARGETS: Mapping[type[Ground], str | list[str]] = {
    Vectors: r"layers\.[13]\.0",
    Texts: ["query", "value"],
}


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
WAITS = keys(patience=st.integers(1, 2), mode=st.sampled_from(["min", "max"]))
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
    keys(
        peak_decay=numbers(0.3, 1),
        warmup_fraction=numbers(0, 0.9),
        minimum_factor=numbers(0, 1),
        save_cycles=st.booleans(),
    ),
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
        both(
            keys(at=st.just("plateau"), plateau=st.just("val/loss"), cycle_steps=st.integers(1, 9)),
            WAITS,
        ),
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
    keys(
        delta=st.sampled_from([1e-5, 1e-3]),
        max_gradient_norm=numbers(0.1, 2),
        accounting=st.sampled_from(["rdp", "prv"]),
    ),
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
#: With the least room a part of the rows is kept, in which there are vectors of some of the first texts.
TRUNK = keys(minimum_epochs=numbers(0, 2), max_gib=st.sampled_from([1e-6, 1e-5, 4.0]), bfloat16=st.booleans())


def adaptive(ground: type[Ground]) -> Arguments:
    """In all of them some steps are left in which ranks can be taken."""
    return keys(
        target_modules=st.sampled_from(["all-linear", TARGETS[ground]]),
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


def adapters(ground: type[Ground]) -> Arguments:
    """Of any method, LoRA more often than the others."""
    targets = {"target_modules": st.sampled_from(["all-linear", TARGETS[ground]])}
    rank = st.integers(1, 8)
    lora = st.builds(
        peft.LoraConfig,
        r=rank,
        lora_alpha=st.integers(1, 32),
        lora_dropout=numbers(0, 0.5),
        use_rslora=st.booleans(),
        use_dora=st.booleans(),
        **targets,
    )
    ia3 = st.builds(peft.IA3Config, feedforward_modules=st.builds(list), **targets)
    hadamard, kronecker = (st.builds(kind, r=rank, **targets) for kind in (peft.LoHaConfig, peft.LoKrConfig))
    orthogonal = st.builds(peft.OFTConfig, r=st.just(0), oft_block_size=st.sampled_from([2, 4]), **targets)
    return keys(config=st.one_of(lora, lora, ia3, hadamard, kronecker, orthogonal))


def stages_by_hand(ground: type[Ground]) -> Arguments:
    """One of its stages may freeze again what was trained; the first or the second may wait for a plateau."""
    top = ground.layers - 1
    names = ["head", "pooler", f"layer.{top - 1}-head", f"layer.{top - 1}-layer.{top}", "embeddings", "all"]
    blocks = st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)
    waits = both(keys(until_plateau=st.just("val/loss")), WAITS)
    first = st.one_of(keys(until_step=st.integers(1, 9)), waits)
    second = st.one_of(keys(until_step=st.integers(10, 14)), waits)
    return st.tuples(blocks, blocks, blocks, first, second).map(
        lambda found: {
            "stages": [
                Stage(found[0], **found[3]),
                Stage(found[1], **found[4], lr_factor=0.5),
                Stage(found[2]),
            ]
        }
    )


def class_weights(ground: type[Ground]) -> Arguments:
    count = len(ground.classes)
    costs = st.lists(numbers(0.1, 4), min_size=count**2, max_size=count**2)
    matrix = costs.map(
        lambda found: [
            [0.0 if true == said else found[count * true + said] for said in range(count)]
            for true in range(count)
        ]
    )
    return both(
        st.one_of(
            keys(weights=st.sampled_from(["balanced", "inverse_sqrt"])),
            keys(weights=st.just("effective_number"), beta=numbers(0.1, 0.99)),
            keys(
                weights=st.just("costs"),
                costs=st.fixed_dictionaries(dict.fromkeys(ground.classes, numbers(0.1, 4))),
            ),
            keys(weights=st.just("cost_matrix"), cost_matrix=matrix),
        ),
        STARTS,
        keys(anneal_fraction=numbers(0, 1)),
    )


def table(ground: type[Ground]) -> dict[str, Arguments]:
    """The valid arguments of each class that can be used on it."""
    rows = {
        "AdaptiveRankAdapters": adaptive(ground),
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
        "FreeLB": both(
            keys(ascent_steps=st.integers(2, 3), step_size=numbers(0.01, 0.5), epsilon=numbers(0.01, 1)),
            one_of(noise=numbers(0, 1)),
        ),
        "FrozenTrunkCache": TRUNK,
        "GradientSurgery": keys(),
        "L2Sp": keys(alpha=numbers(0, 0.5), beta=numbers(0, 0.5)),
        "LatestAverage": both(keys(last=st.integers(2, 4)), AT, STARTS),
        "LayerDrop": keys(p=numbers(0, 0.9)),
        "LowRankAdapters": adapters(ground),
        "LrRestarts": RESTARTS,
        "MaskRateSchedule": MASKS,
        "Mixout": keys(p=numbers(0, 0.9)),
        "NeftuneNoise": keys(alpha=numbers(0, 10)),
        "PrivateTraining": PRIVACY,
        "RDrop": keys(alpha=numbers(0, 5)),
        "ReinitTopLayers": keys(layers=st.integers(0, ground.layers), pooler=st.booleans()),
        "SequenceLengthWarmup": LENGTH,
        "SharpnessAware": keys(
            rho=numbers(0.01, 0.5),
            adaptive=st.booleans(),
            eta=numbers(0, 0.1),
            start_fraction=numbers(0, 0.9),
        ),
        "StagedUnfreezing": st.one_of(
            both(
                PLANS,
                ENDS,
                WAITS,
                keys(lr_decay=numbers(0.5, 1), restore_best=st.sampled_from([None, None, "val/loss"])),
            ),
            stages_by_hand(ground),
        ),
        "StochasticAverage": both(AT, STARTS),
    }
    return {name: row for name, row in rows.items() if name not in ground.left_out}

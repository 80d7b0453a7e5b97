"""Small trained modules beside the frozen linear layers of a model, put in and merged by the package peft."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bertlab.interfaces import Block

if TYPE_CHECKING:
    from peft import PeftConfig

#: Methods of peft whose adapters stand beside one linear layer each and can be merged into its weight.
METHODS = ("LORA", "IA3", "LOHA", "LOKR", "OFT")

#: Keys of their configurations that change the model otherwise.
REFUSED = ("modules_to_save", "layer_replication", "trainable_token_indices", "target_parameters")

#: First weights of LoRA that are found by training passes before it.
FROM_DATA = ("eva", "corda", "lora_ga")

ALL_LINEAR = "all-linear"

#: Keys that say nothing of the adapters.
OF_PEFT = {"peft_type", "peft_version", "auto_mapping"}


@dataclass(frozen=True)
class Adapters:
    """What was put into a model.

    Attributes:
        settings: the configuration as `settings_of` gives it.
        parameters: those that are trained in the place of the model's own.
        targets: names of the linear layers that have an adapter now.
    """

    settings: Mapping[str, Any]
    parameters: Sequence[nn.Parameter]
    targets: Sequence[str]


def settings_of(config: PeftConfig) -> dict[str, Any]:
    """What a configuration of peft says beside its defaults, in plain values: for a checkpoint.

    Args:
        config: of peft.

    Returns:
        `peft_type`, and each key whose value is not the default.

    Raises:
        ValueError: a method or a key that cannot be used here.

    Examples:
        >>> from peft import LoraConfig
        >>> settings_of(LoraConfig(r=4, target_modules=["value", "query"]))
        {'peft_type': 'LORA', 'r': 4, 'target_modules': ['query', 'value']}
    """
    method = getattr(config.peft_type, "value", str(config.peft_type))
    _check(config, method)
    default = type(config)()
    changed = {
        field.name: _plain(field.name, getattr(config, field.name))
        for field in fields(config)
        if field.name not in OF_PEFT and getattr(config, field.name) != getattr(default, field.name)
    }
    return {"peft_type": method, **changed}


def add_adapters(
    model: nn.Module, blocks: Sequence[Block], settings: Mapping[str, Any], generator: torch.Generator
) -> Adapters:
    """Put adapters into the blocks of a model, in place; its own parameters are trained or frozen as before.

    `target_modules: all-linear` means the linear layers within the blocks; others peft finds by their names in `model`.

    Args:
        model: that holds the blocks.
        blocks: of an encoder; they stay what they are, and hold the adapters too.
        settings: of `settings_of`.
        generator: decides about the first weights; torch's own generators are left as they are.

    Raises:
        ValueError: peft refuses the settings; nothing to adapt; an adapter outside the blocks, in the place of one, or
            at no linear layer.
    """
    from peft import PeftConfig, inject_adapter_in_model

    config = PeftConfig.from_peft_type(**copy.deepcopy(dict(settings)))
    within = {id(m) for b in blocks for top in b.modules for m in top.modules() if m is not top}
    if str(settings.get("target_modules")).lower() == ALL_LINEAR:
        vars(config)["target_modules"] = {
            name for name, m in model.named_modules() if isinstance(m, nn.Linear) and id(m) in within
        }
    _check_targets(model, config, within)
    own = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        try:
            inject_adapter_in_model(config, model)
        except ValueError as error:  # peft's
            raise ValueError(f"the settings of the adapters: {error}") from error
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError("the adapters have nothing to train: inference_mode has to be false")
    for parameter, flag in own:
        parameter.requires_grad_(flag)
    return Adapters(dict(settings), trained, [name for name, _ in _adapted(model)])


def plain_parameters(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters of a model as they would be without adapters that do the same: names, and merged values.

    The model stays as it is. Of a model without adapters they are its own, shared ones under each of their names.
    """
    adapted = dict(_adapted(model))
    for name, layer in adapted.items():
        # Merging is undone up to rounding only.
        merged: Any = copy.deepcopy(layer)
        merged.merge(safe_merge=True)
        for own, value in merged.get_base_layer().named_parameters():
            yield f"{name}.{own}", value.detach()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if not any(name.startswith(f"{layer}.") for layer in adapted):
            yield name, parameter


def _adapted(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The modules that peft has put in the place of others."""
    if not hasattr(model, "peft_config"):  # peft takes seconds to import
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            yield name, module


def _check(config: PeftConfig, method: str) -> None:
    if method == "ADALORA":
        raise ValueError(
            "AdaLoRA takes ranks away while training lasts: take the strategy "
            "bertlab.callbacks.adaptive_rank_adapters.AdaptiveRankAdapters in the place of one with peft.AdaLoraConfig"
        )
    if method not in METHODS:
        raise ValueError(
            f"adapters take the methods {', '.join(METHODS)} of peft, whose adapters can be merged into linear layers "
            f"and need nothing of the training loop; got {method} ({type(config).__name__})"
        )
    for key in REFUSED:
        if getattr(config, key, None):
            raise ValueError(
                f"{type(config).__name__}.{key} changes more than linear layers, which bertlab cannot follow: leave it "
                "out"
            )
    first = getattr(config, "init_lora_weights", True)
    if isinstance(first, str) and first.startswith(FROM_DATA):
        raise ValueError(
            f"{type(config).__name__}.init_lora_weights {first!r} needs passes over the data before training, which "
            "bertlab does not make: take true, gaussian, pissa, olora or orthogonal"
        )


def _check_targets(model: nn.Module, config: Any, within: set[int]) -> None:
    """Refuse before anything is changed what peft would adapt and bertlab could not follow."""
    from peft.tuners.tuners_utils import check_target_module_exists

    if config.target_modules is None:
        return  # peft's own choice for the type of the model
    for name, module in model.named_modules():
        if not check_target_module_exists(config, name):
            continue
        if id(module) not in within:
            raise ValueError(
                f"target_modules matches {name!r}, which is no part within a block of the encoder: name linear layers "
                "of its layers"
            )
        if not isinstance(module, nn.Linear):
            raise ValueError(
                f"target_modules matches {name!r}, a {type(module).__name__}: adapters take linear layers"
            )


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, set | frozenset | list | tuple):
        return sorted(value) if isinstance(value, set | frozenset) else list(value)
    if value is None or isinstance(value, bool | int | float | str | dict):
        return value
    raise ValueError(f"adapters: the key {name} takes plain values, got {type(value).__name__}")

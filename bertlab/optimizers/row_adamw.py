"""RowAdamW: AdamW that leaves those rows of a table alone that never had a gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from bertlab.interfaces.gradient_rows import named_rows
from bertlab.optimizers.group_optimizer import GroupOptimizer, adamw_update, gradients

#: Up to this share of a table its rows are taken out, updated and put back; beyond it that takes longer than all rows.
FEW = 0.25
_MOMENTS = ("exp_avg", "exp_avg_sq")


class RowAdamW(GroupOptimizer):
    """Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2, at the cost of the rows that the data names.

    A fine-tuned BERT meets a few thousand of the 30,522 pieces of its table, an XLM-R a few of 250,002, but dense AdamW
    reads and writes the whole table and its two moments in each step. A row whose gradients were all zero has zero
    moments and an update of zero: on a CPU it is left out, and has no moments at all. From its first gradient on a row
    is updated in every step, with a gradient or without. What comes of it is what `torch.optim.AdamW` makes, with one
    difference that is meant: a row is decayed from its first gradient on, not before, so that pieces which the data
    never names stay as they were pretrained, to the bit. Of a table of which more than a part (`FEW`) is named, and on
    other devices, all rows are updated and decayed.

    The state is that of `torch.optim.AdamW`, whose checkpoints it resumes, but of a table: `active` (R,) says which
    rows are updated, and the moments are of these.

    Args:
        params: parameters or groups of them.
        lr: rate, 0 or more.
        betas: β₁ and β₂, each in [0, 1).
        eps: ε, 0 or more.
        weight_decay: of the groups that do not have their own, 0 or more.
        table_rows: a matrix of at least so many rows is a table; 1 or more.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        table_rows: int = 8192,
    ) -> None:
        self.check(betas, lr=lr, eps=eps, weight_decay=weight_decay)
        if table_rows < 1:
            raise ValueError(f"RowAdamW.table_rows takes a number of 1 or more, got {table_rows}")
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "table_rows": table_rows,
        }
        super().__init__(params, defaults)

    def update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Update some parameters of a group, all of which have a gradient."""
        whole: list[Tensor] = []
        for parameter in parameters:
            if _is_table(parameter, group["table_rows"]):
                self._activate_named(parameter)
            elif "active" in self.state[parameter]:  # begun on a CPU, resumed elsewhere
                self._activate(parameter, torch.ones_like(self.state[parameter]["active"]))
            active = self.state[parameter].get("active")
            if active is None or active.all():
                whole.append(parameter)
            else:
                self._update_rows(parameter, group)
        if whole:
            first, second = (self.moments(whole, name) for name in _MOMENTS)
            adamw_update(whole, gradients(whole), first, second, self._steps(whole), group, fused=True)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take a state, of this optimizer or of `torch.optim.AdamW`."""
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group.setdefault("table_rows", self.defaults["table_rows"])
        for state in self.state.values():
            if "active" in state:  # torch gives it the type of the parameter
                state["active"] = state["active"] != 0

    def _activate_named(self, table: Tensor) -> None:
        """Have the rows updated whose gradient is not zero, from this step on."""
        state = self.state[table]
        if "exp_avg" not in state:
            state["active"] = torch.zeros(len(table), dtype=torch.bool)
            state |= {name: table.new_empty(0, table.shape[1]) for name in _MOMENTS}
        if "active" in state and not state["active"].all():  # it is not in a state of torch.optim.AdamW
            active = state["active"] | _with_gradient(table, state["active"])
            self._activate(table, active if active.sum() <= FEW * len(table) else torch.ones_like(active))

    def _activate(self, table: Tensor, active: Tensor) -> None:
        """Make room for the moments of more rows: of those that are updated, one below the other."""
        state = self.state[table]
        before: Tensor = state["active"]
        if torch.equal(active, before):
            return
        state["active"] = active
        for name in _MOMENTS:
            moment = table.new_zeros(int(active.sum()), table.shape[1])
            moment[before[active]] = state[name]
            state[name] = moment

    def _update_rows(self, table: Tensor, group: dict[str, Any]) -> None:
        state = self.state[table]
        rows = state["active"].nonzero().squeeze(1)
        few, gradient = (whole.index_select(0, rows) for whole in (table, gradients([table])[0]))
        first, second = (state[name] for name in _MOMENTS)
        adamw_update([few], [gradient], [first], [second], self._steps([table]), group, fused=True)
        table.index_copy_(0, rows, few)

    def _steps(self, parameters: list[Tensor]) -> list[Tensor]:
        """The number of steps of each parameter, which torch counts on."""
        for parameter in parameters:
            if "step" not in self.state[parameter]:
                self.state[parameter]["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        return [self.state[parameter]["step"] for parameter in parameters]


def _is_table(parameter: Tensor, rows: int) -> bool:
    return (
        type(parameter) is nn.Parameter  # not a part that FSDP2 makes
        and parameter.device.type == "cpu"
        and parameter.ndim == 2
        and len(parameter) >= rows
        and parameter.is_contiguous()
    )


def _with_gradient(table: Tensor, known: Tensor) -> Tensor:
    """(R,) which rows have a gradient; of those known to have had one, it may be left out."""
    (gradient,), named = gradients([table]), named_rows(table)
    if named is None:
        return _not_zero(gradient)
    found = torch.zeros_like(known)
    unknown = named[~known[named]]
    found[unknown] = _not_zero(gradient[unknown])
    return found


def _not_zero(table: Tensor) -> Tensor:
    """(R,) which rows of an (R, D) table are not all zeros; of its bytes, many times as fast as of its numbers."""
    return table.contiguous().view(torch.uint8).amax(1) != 0

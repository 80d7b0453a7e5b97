"""Numbers and names of a plan as a reader likes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def size(count: int | None) -> str:
    """Bytes, to three digits; "—" where they are not known.

    Examples:
        >>> size(22_700_000), size(1_610_612_736), size(None)
        ('21.6 MiB', '1.5 GiB', '—')
    """
    if count is None:
        return "—"
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1000:
            break
        value, unit = value / 1024, larger
    return f"{value:.3g} {unit}"


def duration(seconds: float | None) -> str:
    """A time, in the two units that matter; "—" where it is not known.

    Examples:
        >>> duration(0.0123), duration(75.4), duration(3 * 3600 + 61), duration(200_000)
        ('12 ms', '1 min 15 s', '3 h 1 min', '2 d 7 h')
    """
    if seconds is None:
        return "—"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for large, name, small, part in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= large:
            return f"{whole // large} {name} {whole % large // small} {part}"
    return f"{whole} s"


def share(part: float, whole: float | None) -> str:
    """A part of a whole, in per cent; "—" where the whole is not known.

    Examples:
        >>> share(1.0, 8.0), share(0.01, 8.0), share(1.0, None)
        ('12 %', '0.1 %', '—')
    """
    if whole is None:
        return "—"
    percent = 100 * part / whole
    return f"{percent:.0f} %" if percent >= 1 else f"{percent:.1f} %"


def number(value: float | None) -> str:
    """A quantity: whole numbers whole, others to three digits; "—" where it is not known.

    Examples:
        >>> number(1234567), number(0.15), number(1e-4), number(1240.4), number(None)
        ('1,234,567', '0.15', '0.0001', '1,240', '—')
    """
    if value is None:
        return "—"
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.3g}"


def change(values: Sequence[float]) -> str:
    """The first and the last of some values, and the greatest where it lies between them.

    Examples:
        >>> change([2e-5, 2e-5]), change([1e-4, 5e-5]), change([0.0, 7e-5, 1e-5])
        ('2e-05', '0.0001 → 5e-05', '0 → 7e-05 → 1e-05')
    """
    shown = [f"{value:.3g}" for value in (values[0], max(values), values[-1])]
    if shown[1] in {shown[0], shown[2]}:
        del shown[1]
    return shown[0] if shown[0] == shown[-1] and len(shown) < 3 else " → ".join(shown)


def blocks(trained: Mapping[str, float]) -> str:
    """The blocks that are trained, from the lowest up, neighbours by their ends.

    Args:
        trained: share of each block that is trained.

    Examples:
        >>> blocks({"embeddings": 0, "layer.0": 1, "layer.1": 1, "layer.2": 1, "pooler": 0, "head": 1})
        'layer.0 – layer.2, head'
        >>> blocks({"embeddings": 0.5, "layer.0": 1, "head": 1})
        'embeddings (in part), layer.0, head'
        >>> blocks({"embeddings": 1, "head": 1})
        'all'
    """
    if all(share == 1 for share in trained.values()):
        return "all"
    runs: list[tuple[float, list[str]]] = []
    for name, share in trained.items():
        if runs and runs[-1][0] == share:
            runs[-1][1].append(name)
        else:
            runs.append((share, [name]))
    shown: list[str] = []
    for share, names in runs:
        part = "" if share == 1 else " (in part)"
        if share:
            shown += [f"{names[0]} – {names[-1]}{part}"] if len(names) > 2 else [f"{n}{part}" for n in names]
    return ", ".join(shown) or "nothing"


def note(what: str, facts: Mapping[str, Any]) -> str:
    """What a strategy has noted, on a line.

    Examples:
        >>> note("restart", {"cycle": 1, "peak_factor": 0.7})
        'restart: cycle 1, peak_factor 0.7'
    """
    return f"{what}: {', '.join(f'{key} {_fact(value)}' for key, value in facts.items())}"


def _fact(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | Mapping | list | tuple):
        return str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_fact(item)}" for key, item in value.items())
    if isinstance(value, int | float):
        return number(value)
    items = [_fact(item) for item in value]
    return f"{items[0]} … {items[-1]}" if len(items) > 4 else " ".join(items)

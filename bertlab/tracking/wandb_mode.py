"""Whether Weights & Biases can be online, found out without asking anybody for anything."""

from __future__ import annotations

import netrc
import os
import urllib.error
import urllib.request
import warnings
from urllib.parse import urlparse

from bertlab.tracking.wandb_settings import WandbSettings


def mode_of(settings: WandbSettings) -> str:
    """The mode to run W&B in: WANDB_MODE, or what the settings say; online only where there is a key and a network.

    Where it cannot be online a warning says why, once: WANDB_MODE is set to offline.
    """
    mode = os.environ.get("WANDB_MODE") or settings.mode
    mode = {"dryrun": "offline", "run": "online"}.get(mode, mode)
    if mode == "online" and (hindrance := _hindrance()):
        warnings.warn(
            f"W&B was asked to be online, but {hindrance}: it is offline, `wandb sync` sends the run later",
            stacklevel=2,
        )
        os.environ["WANDB_MODE"] = mode = "offline"
    return mode


def _hindrance() -> str | None:
    """What is in the way of logging online, None if nothing is."""
    url = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    host = urlparse(url).hostname or url
    if not os.environ.get("WANDB_API_KEY"):
        try:
            known = netrc.netrc().authenticators(host)
        except (FileNotFoundError, netrc.NetrcParseError):
            known = None
        if known is None:
            return f"there is no key (WANDB_API_KEY, or `wandb login`) for {host}"
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return None  # it answers
    except OSError as error:
        return f"{host} cannot be reached ({error})"
    return None

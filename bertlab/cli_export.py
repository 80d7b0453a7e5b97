"""export: a checkpoint as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from transformers import PreTrainedModel

from bertlab.cli_lightning import BertlabCLI
from bertlab.cli_overlays import UsageError
from bertlab.cli_parsing import run_cli
from bertlab.export.hugging_face import export_hugging_face
from bertlab.export.several_tasks import export_tasks
from bertlab.tasks.multi_task import MultiTask
from bertlab.tasks.text_task import TextTask
from bertlab.tasks.tokens_of_data import check_vocabulary
from bertlab.tracking.checkpoint_io import read_checkpoint


def run(args: list[str]) -> None:
    """Do what a command line of `bertlab export` says."""
    run_cli(ExportCLI, args)


class Exporter(Trainer):
    """Stands where the command line expects the verbs."""

    def export(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
        output: str | None = None,
    ) -> None:
        """Write the model of a checkpoint as a Hugging Face folder; of several tasks in one, a folder for each.

        Args:
            model: the task, whose weights are those of the checkpoint afterwards.
            datamodule: whose tokenizer is written too, if it has one.
            ckpt_path: `best`, `last` or a file.
            output: folder to make; of several tasks, in which <task>/ is made.

        Raises:
            ValueError: an argument is missing, or the checkpoint is of another model or another vocabulary.
        """
        if ckpt_path is None:
            raise UsageError("bertlab export takes --ckpt_path best, last or a file")
        if output is None:
            raise UsageError("bertlab export takes --output, the folder to make")
        if not isinstance(model, TextTask):
            raise ValueError(f"bertlab export takes a task of bertlab.tasks, got {type(model).__name__}")
        checkpoint = read_checkpoint(ckpt_path)
        check_vocabulary(datamodule, model.encoder)
        state = checkpoint.get(type(datamodule).__qualname__)
        if datamodule is not None and state:
            # Data of another vocabulary is refused, whose tokenizer would be written.
            datamodule.load_state_dict(state)
        model.on_load_checkpoint(checkpoint)
        model.load_state_dict(checkpoint["state_dict"])
        tokenizer = getattr(datamodule, "tokenizer", None)
        if isinstance(model, MultiTask):
            for name, written in export_tasks(model, tokenizer, output).items():
                print(_said(f"{output}/{name}", written))
        else:
            print(_said(output, export_hugging_face(model, tokenizer, output)))


def _said(folder: str, written: PreTrainedModel) -> str:
    return f"{folder}: {type(written).__name__}, {sum(p.numel() for p in written.parameters()):,} parameters"


class ExportCLI(BertlabCLI):
    """The keys of the other verbs, and the output; the trainer's are read and not used."""

    trainer_type = Exporter
    compiles = False

    def subcommands(self) -> dict[str, set[str]]:
        """The verb, and the arguments that are not keys."""
        return {"export": {"model", "datamodule"}}

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """One that does nothing: devices, loggers and callbacks of a training are none of an export's."""
        config = self.config_init[str(self.subcommand)]
        config.ckpt_path = None if self.checkpoint is None else str(self.checkpoint)
        return Exporter(
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=str(Path(self.run_directory.path)),
        )

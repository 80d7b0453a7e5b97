"""What KerasHub's BERT says of a Hugging Face folder; runs under TensorFlow.

python -m tests.tensorflow.keras_hub_states FOLDER INPUTS.npz OUTPUTS.npz
"""

from __future__ import annotations

import sys

import numpy as np


def main(folder: str, inputs: str, outputs: str) -> None:
    """Read (B, T) ids, segments and masks; write the last hidden states and the pooled output."""
    import keras_hub

    backbone = keras_hub.models.BertBackbone.from_preset(folder)
    with np.load(inputs) as given:
        said = backbone(
            {
                "token_ids": given["input_ids"],
                "segment_ids": given["token_type_ids"],
                "padding_mask": given["attention_mask"],
            },
            training=False,
        )
    np.savez(outputs, hidden=np.asarray(said["sequence_output"]), pooled=np.asarray(said["pooled_output"]))


if __name__ == "__main__":
    main(*sys.argv[1:])

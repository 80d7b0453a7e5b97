"""Write the tiny checkpoint of tests/google_bert.py with TensorFlow's own Saver; runs under TensorFlow.

    python -m tests.tensorflow.write_checkpoint FOLDER [--parts 3] [--devices 2]

tests/sources/google_tiny and google_tiny_parts were made by it (the latter with `--parts 3 --devices 2`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from tests.google_bert import all_values, write_beside


def _part_of(value: np.ndarray) -> Any:
    """An initializer that gives each partition its part."""

    def initializer(shape: list[int], dtype: Any, partition_info: Any = None) -> np.ndarray:
        start = partition_info.var_offset if partition_info is not None else [0] * len(shape)
        where = tuple(slice(first, first + size) for first, size in zip(start, shape, strict=True))
        return value[where]

    return initializer


def write(folder: Path, parts: int, devices: int) -> None:
    """Variables as Google's code makes them, the word embeddings and their moments in parts, on several devices."""
    import tensorflow

    tf = tensorflow.compat.v1
    tf.disable_eager_execution()
    graph = tf.Graph()
    with graph.as_default():
        for place, (name, value) in enumerate(all_values().items()):
            split = parts > 1 and "word_embeddings" in name
            with tf.device(f"/cpu:{place % devices}"):
                tf.get_variable(
                    name,
                    shape=value.shape,
                    initializer=_part_of(value),
                    partitioner=tf.fixed_size_partitioner(parts) if split else None,
                    use_resource=False,
                )
        tf.train.get_or_create_global_step()
        saver = tf.train.Saver(sharded=devices > 1)
        with tf.Session(config=tf.ConfigProto(device_count={"CPU": devices})) as session:
            session.run(tf.global_variables_initializer())
            saver.save(session, str(folder / "bert_model.ckpt"), write_meta_graph=False, write_state=False)


def main() -> None:
    """Read the arguments, write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--devices", type=int, default=1)
    arguments = parser.parse_args()
    write_beside(arguments.folder)
    write(arguments.folder, arguments.parts, arguments.devices)


if __name__ == "__main__":
    main()

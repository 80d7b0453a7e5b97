"""A training run of Google's optimizer and schedule in TensorFlow's own operations; runs under TensorFlow.

python -m tests.tensorflow.adam_update OUTPUTS.npz

The operations are those of create_optimizer and AdamWeightDecayOptimizer in google-research/bert, one by one.
"""

from __future__ import annotations

import re
import sys

import numpy as np

from tests.google_bert import shapes, value

RATE, STEPS, WARM = 1e-2, 12, 4


def gradients_at(step: int) -> dict[str, np.ndarray]:
    """Gradients of very different sizes, so that some steps are clipped and ε counts in others."""
    drawn = {name: value(f"{name} {step}", shape) for name, shape in shapes().items()}
    return {name: (g * 10.0 ** (step % 5 - 3)).astype(np.float32) for name, g in drawn.items()}


def main(outputs: str) -> None:
    """Write every variable as it is after the run."""
    import tensorflow

    tf = tensorflow.compat.v1
    tf.disable_eager_execution()
    params, fed, assignments = {}, {}, []
    global_step = tf.train.get_or_create_global_step()
    learning_rate = tf.constant(value=RATE, shape=[], dtype=tf.float32)
    learning_rate = tf.train.polynomial_decay(
        learning_rate, global_step, STEPS, end_learning_rate=0.0, power=1.0, cycle=False
    )
    steps_int, warm_int = tf.cast(global_step, tf.int32), tf.constant(WARM, dtype=tf.int32)
    warm_rate = RATE * (tf.cast(steps_int, tf.float32) / tf.cast(warm_int, tf.float32))
    is_warmup = tf.cast(steps_int < warm_int, tf.float32)
    learning_rate = (1.0 - is_warmup) * learning_rate + is_warmup * warm_rate
    for name, shape in shapes().items():
        params[name] = tf.get_variable(name, initializer=value(name, shape))
        fed[name] = tf.placeholder(tf.float32, shape)
    clipped, _ = tf.clip_by_global_norm(list(fed.values()), clip_norm=1.0)
    for (name, param), grad in zip(params.items(), clipped, strict=True):
        zeros = tf.zeros_initializer()
        m = tf.get_variable(f"{name}/adam_m", param.shape, tf.float32, initializer=zeros, trainable=False)
        v = tf.get_variable(f"{name}/adam_v", param.shape, tf.float32, initializer=zeros, trainable=False)
        next_m = tf.multiply(0.9, m) + tf.multiply(1.0 - 0.9, grad)
        next_v = tf.multiply(0.999, v) + tf.multiply(1.0 - 0.999, tf.square(grad))
        update = next_m / (tf.sqrt(next_v) + 1e-6)
        if not any(re.search(pattern, name) for pattern in ("LayerNorm", "layer_norm", "bias")):
            update += 0.01 * param
        assignments += [param.assign(param - learning_rate * update), m.assign(next_m), v.assign(next_v)]
    train = tf.group(*assignments)
    with tf.control_dependencies([train]):
        train = tf.group(global_step.assign(global_step + 1))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for step in range(STEPS):
            given = gradients_at(step)
            session.run(train, {fed[name]: given[name] for name in fed})
        np.savez(outputs, **{name.replace("/", "|"): v for name, v in session.run(params).items()})


if __name__ == "__main__":
    main(*sys.argv[1:])

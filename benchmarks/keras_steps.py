"""Training steps in Keras on TensorFlow, with the papers' networks as its users would write them.

It runs in its own interpreter (see ``step_process``), and imports only Keras, TensorFlow and numpy.
The input is padded without masks, as for the plain PyTorch networks; a step is
``train_on_batch``, which compiles its graph.

    python -m benchmarks.keras_steps fu2020 2     # network, threads
"""

import os
import sys
from importlib import import_module
from typing import Any

from benchmarks.step_process import serve_steps

SIZES = {"li2019": (40, 301, 384), "fu2020": (64, 256, 128)}
"""Utterances, frames and bins of a batch."""


def li2019(layers: Any, x_btf: Any) -> list[Any]:
    """Li et al. 2019: the logits of emotion and gender; convolutions use zero padding."""
    x_btd = x_btf
    for _ in range(2):
        x_btd = layers.Conv1D(64, 3, padding="same", activation="relu")(x_btd)
    x_btd = layers.MaxPooling1D(3)(x_btd)
    for _ in range(2):
        x_btd = layers.Dropout(0.5)(_blstm(layers, 60)(x_btd))
    hidden_btd = layers.Dense(512, activation="tanh", use_bias=False)(x_btd)
    weight_bth = layers.Softmax(axis=1)(layers.Dense(8, use_bias=False)(hidden_btd))
    z_bd = layers.Flatten()(layers.Dot(axes=1)([weight_bth, x_btd]))
    return [layers.Dense(7)(z_bd), layers.Dense(2)(z_bd)]


def fu2020(layers: Any, x_btf: Any) -> list[Any]:
    """Fu et al. 2020: the logits of emotion."""
    x_btd = x_btf
    for channels, width in ((512, 3), (1024, 1), (2048, 3)):
        x_btd = layers.Conv1D(channels, width, activation="relu")(x_btd)
    x_btd = layers.Dropout(0.35)(layers.Dense(512)(x_btd))
    for _ in range(2):
        x_btd = layers.Dropout(0.35)(_blstm(layers, 128)(x_btd))
    h_btd = layers.MultiHeadAttention(16, 16, use_bias=False)(x_btd, x_btd)
    weight_bt1 = layers.Softmax(axis=1)(layers.Dense(1, use_bias=False)(h_btd))
    return [layers.Dense(7)(layers.Flatten()(layers.Dot(axes=1)([weight_bt1, h_btd])))]


def _blstm(layers: Any, width: int) -> Any:
    return layers.Bidirectional(layers.LSTM(width, return_sequences=True))


def main(name: str, threads: int) -> None:
    """Serve training steps of one network."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    keras, tf, np = map(import_module, ("keras", "tensorflow", "numpy"))
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    keras.utils.set_random_seed(0)
    batch, frames, bins = SIZES[name]
    x_btf = np.random.default_rng(0).standard_normal((batch, frames, bins), np.float32)
    sources = keras.Input((frames, bins))
    logits = {"li2019": li2019, "fu2020": fu2020}[name](keras.layers, sources)
    targets = [np.arange(batch) % logit.shape[-1] for logit in logits]
    losses = [keras.losses.SparseCategoricalCrossentropy(from_logits=True) for _ in logits]
    optimizer = (
        keras.optimizers.Adam(1e-3, clipvalue=1.0)
        if name == "li2019"
        else keras.optimizers.RMSprop(1e-3)
    )
    model = keras.Model(sources, logits)
    model.compile(optimizer, losses)
    version = f"Keras {keras.__version__}, TensorFlow {tf.__version__}"
    serve_steps(version, lambda: model.train_on_batch(x_btf, targets))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

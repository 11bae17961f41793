#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21.0: fit() shows a loss of 0 where an own train_step returns {"loss": loss}.
#
# fit() takes what train_step returns, unless its keys are the names of the model's metrics: then it
# takes those. compile() gives every model a metric called "loss", which only Keras's own train_step
# updates. So a step of one's own that returns {"loss": loss}, as many loops for Keras 2 do, logs 0.0:
# in the bar, in History, to ModelCheckpoint and EarlyStopping, though the model learns. Under any
# other name, or with a second entry, the numbers are right.
#
# Seen: history [0.0, 0.0] for "loss", numbers above 0 for "my_loss"; the weights moved in both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q tensorflow==2.21.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES='' "$folder/env/bin/python" - <<'PYTHON'
import keras
import numpy as np
import tensorflow as tf


class Own(keras.Model):
    def __init__(self, name_of_loss):
        super().__init__()
        self.name_of_loss = name_of_loss
        self.dense = keras.layers.Dense(1, kernel_initializer="zeros")

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self(x) - y))
        weights = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        return {self.name_of_loss: loss}


found = {}
for name in ("loss", "my_loss"):
    model = Own(name)
    model.compile("sgd")
    history = model.fit(np.ones((8, 2)), np.ones((8, 1)), epochs=2, verbose=0).history
    moved = float(np.abs(model.dense.kernel).max()) > 0
    found[name] = history[name], moved
    print(f"Keras {keras.__version__}: {name} {history[name]}, weights moved: {moved}")
zeros, others = found["loss"], found["my_loss"]
assert zeros == ([0.0, 0.0], True), "this has changed"
assert min(others[0]) > 0 and others[1], "this has changed"
PYTHON

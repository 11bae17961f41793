#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21.0: under MirroredStrategy an own compute_loss learns as many times
# faster as there are replicas.
#
# Gradients are summed over replicas. A loss that is given to compile() is divided by their number
# ahead of that, inside of Keras's Loss; what an overridden compute_loss returns is not, though the
# mean of it is just as much a mean of the replica's part of the batch. So the example in the
# docstring of compute_loss takes steps twice as long on two devices, with the same numbers in the
# bar halved. Divide by tf.distribute.get_strategy().num_replicas_in_sync.
#
# Seen: one step of SGD on two replicas moves the weight by 0.1 with loss="mse", by 0.2 with the same
# mean in compute_loss; on one device by 0.1 both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q tensorflow==2.21.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES='' "$folder/env/bin/python" - <<'PYTHON'
import keras
import numpy as np
import tensorflow as tf

(cpu,) = tf.config.list_physical_devices("CPU")
part = tf.config.LogicalDeviceConfiguration()
tf.config.set_logical_device_configuration(cpu, [part] * 2)


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")

    def call(self, x):
        return self.dense(x)


class OwnLoss(Own):
    def compute_loss(self, x, y, y_pred, sample_weight, training=True):
        return keras.ops.mean((y_pred - y) ** 2)


def moved(kind, devices):
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(devices)])
    with strategy.scope():
        model = kind()
        model.compile(keras.optimizers.SGD(0.05), "mse" if kind is Own else None)
    model.fit(np.ones((4, 1)), np.ones((4, 1)), batch_size=4, verbose=0)
    return round(float(np.asarray(model.dense.kernel).item()), 6)


found = {kind.__name__: [moved(kind, n) for n in (1, 2)] for kind in (Own, OwnLoss)}
print(f"Keras {keras.__version__}, weights after a step on one device and on two: {found}")
assert found == {"Own": [0.1, 0.1], "OwnLoss": [0.1, 0.2]}, "this has changed"
PYTHON

#!/usr/bin/env bash
# TensorFlow 2.21.0: on a CPU a grouped convolution runs, and its gradient does not; by XLA it does.
#
# tf.nn.conv2d takes kernels of fewer input channels than the picture has, which is a convolution in
# groups (keras.layers.Conv2D(groups=...) is that). The forward pass works on a CPU, so a model
# paints; training it there ends in "Gradients for grouped convolutions are not supported on CPU".
# The same function with jit_compile=True, on the same CPU, has the gradient.
#
# Seen: forward (1, 8, 8, 4); gradient: InvalidArgumentError; gradient by XLA: (3, 3, 2, 4).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q tensorflow==2.21.0
TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES='' "$folder/env/bin/python" - <<'PYTHON'
import tensorflow as tf

x = tf.random.normal((1, 8, 8, 4))
kernel = tf.Variable(tf.random.normal((3, 3, 2, 4)))


def gradient(x):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.nn.conv2d(x, kernel, 1, "SAME"))
    return tape.gradient(loss, kernel)


forward = tf.nn.conv2d(x, kernel, 1, "SAME").shape
try:
    plain = tf.function(gradient)(x).shape
except tf.errors.InvalidArgumentError as error:
    plain = type(error).__name__
compiled = tf.function(gradient, jit_compile=True)(x).shape
print(f"TensorFlow {tf.__version__}: {forward}; gradient: {plain}; by XLA: {compiled}")
assert plain == "InvalidArgumentError" and compiled == (3, 3, 2, 4), "this has changed"
PYTHON

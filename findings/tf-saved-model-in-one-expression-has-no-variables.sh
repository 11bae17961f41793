#!/usr/bin/env bash
# TensorFlow 2.21.0: tf.saved_model.load(folder).serve(x), in one expression, fails.
#
# What is loaded holds the variables; its functions refer to them weakly. In one expression nobody
# holds what was loaded when the function runs, and it says that the variables "have been deleted",
# which is "generally a mistake" of whoever wrote the function. With a name for what was loaded the
# same call works. It is the same for what keras.Model.export writes.
#
# Seen: AssertionError in one expression, 6.0 in two.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q tensorflow==2.21.0
TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES='' "$folder/env/bin/python" - "$folder/model" <<'PYTHON'
import sys

import tensorflow as tf


class Double(tf.Module):
    def __init__(self):
        self.factor = tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32)])
    def serve(self, x):
        return self.factor * x


tf.saved_model.save(Double(), sys.argv[1])
try:
    one = tf.saved_model.load(sys.argv[1]).serve(3.0).numpy()
except AssertionError as error:
    one = str(error)
loaded = tf.saved_model.load(sys.argv[1])
two = loaded.serve(3.0).numpy()
print(f"TensorFlow {tf.__version__}: in one expression: {one}\nin two: {two}")
assert "variables which have been deleted" in str(one) and two == 6.0, "this has changed"
PYTHON

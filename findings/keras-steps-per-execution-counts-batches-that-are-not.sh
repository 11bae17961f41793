#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21.0: with steps_per_execution, callbacks hear of batches that are not.
#
# fit() of 10 batches with steps_per_execution=3 calls on_train_batch_end four times, with 2, 5, 8
# and 11, though the last batch is number 9: the last execution has one batch and is counted as
# three. Whoever counts steps by that number (checkpoints every so many steps, schedules, logs)
# is two steps ahead after each epoch. The optimizer's own count is right.
#
# Seen: ends [2, 5, 8, 11]; optimizer.iterations 10.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q tensorflow==2.21.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES='' "$folder/env/bin/python" - <<'PYTHON'
import keras
import numpy as np

ends = []
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.compile("sgd", "mse", steps_per_execution=3)
model.fit(
    np.ones((10, 2)),
    np.ones((10, 1)),
    batch_size=1,
    verbose=0,
    callbacks=[
        keras.callbacks.LambdaCallback(on_train_batch_end=lambda n, logs: ends.append(n))
    ],
)
steps = int(model.optimizer.iterations)
print(f"Keras {keras.__version__}: ends {ends}; optimizer.iterations {steps}")
assert (ends, steps) == ([2, 5, 8, 11], 10), "this has changed"
PYTHON

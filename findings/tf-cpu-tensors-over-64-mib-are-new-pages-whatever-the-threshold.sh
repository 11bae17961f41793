#!/usr/bin/env bash
# TensorFlow 2.21.0 on a CPU, with glibc: a tensor of more than 64 MiB is mapped from the system,
# page by page, each time that an operation makes one, although MALLOC_MMAP_THRESHOLD_ is a GiB.
#
# glibc's threshold says from which size on a block is mapped by itself. But TensorFlow's threads
# have heaps of their own, in pieces of 64 MiB at most, and what no piece can hold is mapped all the
# same, and unmapped when it is freed. With MALLOC_ARENA_MAX=1 all threads have the process's first
# heap, which grows as it likes, and the threshold is kept.
#
# Seen (glibc 2.36): of ten operations on 80 MiB in a row 225,000 pages are faulted in at each call,
# and with one heap 74,000 to 94,000; on 48 MiB, which a piece holds, 20,000 and 20,000.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q tensorflow==2.21.0
cat > "$folder/faults.py" <<'PYTHON'
import resource
import sys

import tensorflow as tf

rows = int(sys.argv[1]) * 256  # of 4 KiB
x = tf.Variable(tf.ones((rows, 1024)))


@tf.function(autograph=False)
def chain():
    y = x * 2.0
    for _ in range(10):
        y = tf.sin(y)
        y = tf.concat([y[:1], y[1:]], 0)
    return tf.reduce_sum(y)


def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


chain()
before = faults()
for _ in range(5):
    chain()
print((faults() - before) // 5)
PYTHON
faults() {
    env TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES='' MALLOC_MMAP_THRESHOLD_=1073741824 \
        MALLOC_TRIM_THRESHOLD_=1073741824 "${@:2}" "$folder/env/bin/python" "$folder/faults.py" "$1" \
        2> /dev/null
}
large=$(faults 80) large_one=$(faults 80 MALLOC_ARENA_MAX=1)
small=$(faults 48) small_one=$(faults 48 MALLOC_ARENA_MAX=1)
echo "pages faulted in at each call: 80 MiB $large, with one heap $large_one;" \
    "48 MiB $small, with one heap $small_one"
if ((large < 2 * large_one || small > 2 * small_one + 1000)); then
    echo "this has changed" >&2
    exit 1
fi

"""Matrix products of float32 on TensorFlow and a CPU, one by one by oneDNN.

TensorFlow decides for all operations at once whether oneDNN computes them, and on
processors with AVX2 alone that is Eigen's work: there its convolutions are the quicker
ones. Of most products oneDNN's are: it lays nothing out anew, so that transposed
matrices, narrow ones and piles of small ones cost what others do. The operations are in
every build for x86, under names of their own; where one of them is not, or does not
give what it should, products stay as they are.
"""

from __future__ import annotations

import functools

import numpy as np

from kerasdiffusion.compute import backend, processor, tensorflow_cpu

#: TensorFlow's operations, of two matrices and of piles of them: what they are called,
#: and what says that the left and the right one are transposed.
MATRICES = "_MklMatMul", "transpose_a", "transpose_b"
PILES = "_MklBatchMatMulV2", "adj_x", "adj_y"
#: What chooses oneDNN's kernel of an operation where TensorFlow has not.
KERNEL = {"_kernel": b"MklNameChangeOp"}
#: Rows up to which, and columns from which on, Eigen is the quicker one all the same.
FEW_ROWS, WIDE = 256, 2048


def matmul(a, b, transpose_a: bool = False, transpose_b: bool = False):
    """The product of two matrices, or of as many each.

    For what is not differentiated by TensorFlow, nor compiled by XLA.

    Args:
        a: Tensor of shape `(..., rows, inner)`, or with both exchanged.
        b: Tensor of shape `(..., inner, columns)`, or with both exchanged.
        transpose_a: Whether the last two axes of `a` are exchanged.
        transpose_b: The same of `b`.

    Returns:
        Tensor of shape `(..., rows, columns)`.
    """
    import tensorflow as tf

    a, b = tf.convert_to_tensor(a), tf.convert_to_tensor(b)
    if not takes(a, b, transpose_a, transpose_b):
        return tf.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    return _by_onednn(a, b, transpose_a, transpose_b)


def takes(a, b, transpose_a: bool = False, transpose_b: bool = False) -> bool:
    """Whether oneDNN is the quicker one, for tensors of these shapes, here and now."""
    import tensorflow as tf

    if a.dtype != "float32" or b.dtype != "float32" or tf.executing_eagerly():
        return False
    if a.shape.rank is None or a.shape.rank != b.shape.rank:
        return False
    if not are_there():
        return False
    if transpose_b or a.shape.rank != 2 or None in (*a.shape, *b.shape):
        return True
    return a.shape[1 if transpose_a else 0] > FEW_ROWS or b.shape[1] < WIDE


def are_there() -> bool:
    """Whether oneDNN's products are the quicker ones here, and can be had."""
    return (
        "avx2" in processor.here()
        and not tensorflow_cpu.has_onednn()
        and not backend.has_accelerator()
        and are_right()
    )


@functools.cache
def are_right() -> bool:
    """Whether they give what they should: tried once, on small numbers."""
    import tensorflow as tf

    left, right = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(4, 3)

    @tf.function(autograph=False)
    def tried():
        a, b = tf.constant(left, "float32"), tf.constant(right, "float32")
        return _by_onednn(a, b, False, True), _by_onednn(a[None], b[None], False, True)

    try:
        with tf.init_scope(), tf.device("CPU:0"):
            found = [np.squeeze(each.numpy()) for each in tried()]
    except Exception:  # whatever another build of TensorFlow says
        return False
    return all(np.array_equal(each, left @ right.T) for each in found)


def _by_onednn(a, b, transpose_a: bool, transpose_b: bool):
    """Of matrices in a graph, or of piles of them."""
    import tensorflow as tf

    name, first, second = MATRICES if a.shape.rank == 2 else PILES
    made = tf.compat.v1.AttrValue
    attrs = {first: made(b=transpose_a), second: made(b=transpose_b)}
    attrs |= {"T": made(type=tf.float32.as_datatype_enum)}
    attrs |= {key: made(s=value) for key, value in KERNEL.items()}
    graph = tf.compat.v1.get_default_graph()
    made = graph.create_op(name, [a, b], [tf.float32], name="product", attrs=attrs)
    return made.outputs[0]

"""Memory that variables gave up is used again, and never while anybody reads it."""

import weakref

import keras
import numpy as np
import pytest

from kerasdiffusion.compute import memory
from kerasdiffusion.compute.recycled import Recycled

SHAPE = (64, 96)

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="others take any array's memory"
)


def variable_of(values):
    variable = keras.Variable(np.zeros(SHAPE, "float32"))
    memory.put("tensorflow", variable, values)
    return variable


def address(variable):
    return np.asarray(variable.value.read_value()).ctypes.data


def filled(recycled, number):
    array = recycled.room(SHAPE)
    array[:] = number
    return array


def test_what_a_variable_gives_up_is_the_next_array():
    recycled = Recycled("tensorflow")
    with recycled.at_hand():
        variable = variable_of(filled(recycled, 1))
        first = address(variable)
    with recycled.at_hand():  # a later change of the weights
        memory.put("tensorflow", variable, filled(recycled, 2))
        assert address(variable) != first
        assert recycled.room(SHAPE).ctypes.data == first


def test_what_somebody_still_reads_is_let_alone():
    recycled = Recycled("tensorflow")
    with recycled.at_hand():
        variable = variable_of(filled(recycled, 1))
        held = memory.keep("tensorflow", variable)
        memory.put("tensorflow", variable, filled(recycled, 2))
        for _ in range(3):
            memory.put("tensorflow", variable, filled(recycled, 3))
    np.testing.assert_array_equal(np.asarray(held), np.ones(SHAPE))


def test_an_array_of_another_size_is_another():
    recycled = Recycled("tensorflow")
    with recycled.at_hand():
        first = recycled.room(SHAPE).ctypes.data
        other = recycled.room((SHAPE[0], SHAPE[1] + 64))
        assert other.shape == (64, 160) and other.ctypes.data != first
        assert recycled.room(SHAPE[::-1]).ctypes.data == first


def test_nothing_is_kept_afterwards():
    recycled = Recycled("tensorflow")
    with recycled.at_hand():
        whole = weakref.ref(recycled.room(SHAPE).base)
        assert whole() is not None
    assert whole() is None

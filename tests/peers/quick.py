"""What runs by default, where much shows one thing."""

import keras
import pytest


def compiler(config: pytest.Config) -> bool | str:
    """How models are compiled: with `--full-size` by XLA on TensorFlow's CPU too.

    XLA takes three times as long there, and `test_pipelines` shows it by default.
    """
    xla = config.getoption("--full-size") and keras.backend.backend() == "tensorflow"
    return True if xla else "auto"


def quick(values, *some) -> list:
    """Parameters of a test, of which all but a few are heavy.

    Args:
        values: All; a tuple stands for several arguments.
        some: Those that always run.
    """
    parameters = []
    for value in values:
        arguments = value if isinstance(value, tuple) else (value,)
        marks = () if value in some else pytest.mark.heavy
        parameters.append(pytest.param(*arguments, marks=marks))
    return parameters

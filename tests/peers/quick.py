"""What runs by default, where many parameters show one thing."""

import pytest


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

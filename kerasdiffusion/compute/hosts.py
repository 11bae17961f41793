"""Several processes of JAX that learn as one, each on its host or its device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras


def begin(
    address: str | None = None, count: int | None = None, number: int | None = None
) -> None:
    """Has this process find the others; ahead of everything that computes.

    Args:
        address: Of the first process, `"10.0.0.1:1234"`. What is not given is as
            `KERAS_DISTRIBUTION_...`, a TPU pod or Slurm say.
        count: How many processes there are.
        number: Which of them this one is.

    Raises:
        ValueError: If the backend is none that does, or nothing says where they are.
    """
    if keras.backend.backend() != "jax":
        raise ValueError(
            "Several processes must run on JAX: --backend jax, KERAS_BACKEND=jax. "
            f"Received: {keras.backend.backend()}"
        )
    try:
        keras.distribution.initialize(address, count, number)
    except ValueError as error:
        raise ValueError(
            "Processes must be told of each other: --processes 2 --process 0 "
            "--coordinator 10.0.0.1:1234, each with its own number "
            f"({error}). Received: {address}, {count}, {number}"
        ) from error


def place() -> tuple[int, int]:
    """Which process this one is, and of how many."""
    if keras.backend.backend() != "jax":
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def spread_batches() -> int:
    """Has batches spread over the devices of all processes, a share from each.

    Returns:
        How many devices these are.
    """
    spread = keras.distribution.DataParallel(auto_shard_dataset=False)
    keras.distribution.set_distribution(spread)
    return len(keras.distribution.list_devices())


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Within it, this process computes without the others."""
    spread = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(spread)


def wait(name: str) -> None:
    """Waits until all processes have come here.

    Args:
        name: Of this place, the same in all of them.
    """
    _, count = place()
    if count > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def first_ahead(name: str) -> Iterator[None]:
    """What is within it, the first process does, and then all others.

    So these find in a folder what it has made.

    Args:
        name: Of this place, the same in all of them.
    """
    number, _ = place()
    if number > 0:
        wait(name)
    yield
    if number == 0:
        wait(name)

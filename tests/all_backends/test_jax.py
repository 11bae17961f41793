"""The tests that are marked `every_backend`, again on JAX."""

from tests.all_backends.children import only_from_tensorflow, run_every_backend

pytestmark = only_from_tensorflow


def test_every_backend():
    run_every_backend("jax")

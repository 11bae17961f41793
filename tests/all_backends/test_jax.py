"""The tests that are marked `every_backend`, again on JAX."""

from tests.all_backends.children import only_from_tensorflow, run_every_backend

pytestmark = only_from_tensorflow


def test_every_backend(tmp_path, pytestconfig):
    # Many tests compile the same programs.
    run_every_backend(
        "jax",
        pytestconfig.getoption("--full-size"),
        JAX_COMPILATION_CACHE_DIR=str(tmp_path),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
        JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES="-1",
    )

"""The tests that are marked `every_backend`, again on PyTorch."""

from tests.all_backends.children import only_from_tensorflow, run_every_backend

pytestmark = only_from_tensorflow


def test_every_backend(pytestconfig):
    run_every_backend("torch", pytestconfig.getoption("--full-size"))

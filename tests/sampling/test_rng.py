import numpy as np
import pytest

from kerasdiffusion.sampling.rng import TorchCPU, TorchCUDA, philox


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        # Random123's known-answer tests (`kat_vectors`) of philox4x32 10.
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([2**32 - 1] * 4, [2**32 - 1] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox(counter, key, expected):
    words = philox(np.array(counter, np.uint32)[:, None], np.array(key, np.uint32))
    assert " ".join(f"{word:08x}" for word in words[:, 0]) == expected


def test_noise_of_a_gpu():
    """The values in the docstring of AUTOMATIC1111's `modules/rng_philox.py`."""
    expected = [
        [-0.92466259, -0.42534415, -2.6438457, 0.14518388],
        [-0.12086647, -0.57972564, -0.62285122, -0.32838709],
        [-1.07454231, -0.36314407, -1.67105067, 2.26550497],
    ]
    generator = TorchCUDA(0)
    first = generator.normal((3, 4))
    assert first.dtype == np.float32
    assert first == pytest.approx(np.array(expected), abs=5e-7)
    assert not (generator.normal((3, 4)) == first).any()


def test_noise_of_a_cpu():
    """`torch.randn` with `torch.Generator().manual_seed(9)`, PyTorch 2.13."""
    few = TorchCPU(9).normal((3,))
    assert few == pytest.approx(np.array([0.04472754, 1.911239, -0.2310309]), rel=1e-6)
    many = TorchCPU(9).normal((23,))[:4]
    expected = np.array([-1.0673947, -0.71724534, 1.0897193, -1.5746837])
    assert many == pytest.approx(expected, rel=1e-6)

"""Normal noise as other programs draw it: PyTorch's generators, in numpy.

Each is a class with `normal(shape)`, which returns float32 values and moves on, so that
what is drawn next is what PyTorch draws next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_INVERSE = float(np.float32(2.0**-32))
_TURN = float(np.float32(_INVERSE) * np.float32(2.0 * math.pi))
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)


class TorchCPU:
    """`torch.randn` on the CPU, with `torch.Generator().manual_seed(seed)`.

    A Mersenne twister. Of 16 values and more, uniform 24-bit numbers are turned by
    pairs, eight apart, into normal ones; if the last 16 are not whole, all 16 of them
    are drawn anew. Fewer come of 53-bit numbers, two by two, one kept for later.

    Args:
        seed: From 0 to 2**64 - 1; PyTorch takes its lower 32 bits.

    The values are equal to the bit to those of x86 processors with AVX2; PyTorch's own
    differ in the last digits on others.

    Reference:
        PyTorch `aten/src/ATen/core/MT19937RNGEngine.h`, `aten/src/ATen/native/cpu/
        DistributionTemplates.h` (`normal_fill`), `aten/src/ATen/core/
        DistributionsHelper.h` (`normal_distribution`).
    """

    def __init__(self, seed: int):
        self._twister = np.random.MT19937()
        self._twister._legacy_seeding(seed & 0xFFFFFFFF)
        self._kept = None

    def normal(self, shape: Sequence[int]) -> np.ndarray:
        """float32 standard normal values of a shape."""
        size = math.prod(shape)
        values = self._many(size) if size >= 16 else self._few(size)
        return values.reshape(shape)

    def _many(self, size: int) -> np.ndarray:
        values = _box_muller(self._bits(size))
        if size % 16:
            values[-16:] = _box_muller(self._bits(16))
        return values

    def _bits(self, size: int) -> np.ndarray:
        return self._twister.random_raw(size).astype(np.uint32)

    def _few(self, size: int) -> np.ndarray:
        values = np.empty(size)
        for i in range(size):
            if self._kept is not None:
                values[i], self._kept = self._kept, None
                continue
            u, v = (self._double() for _ in range(2))
            radius = math.sqrt(-2.0 * math.log1p(-v))
            values[i] = radius * math.cos(2.0 * math.pi * u)
            self._kept = radius * math.sin(2.0 * math.pi * u)
        return values.astype(np.float32)

    def _double(self) -> float:
        high, low = (int(word) for word in self._bits(2))
        return ((high << 32 | low) & (2**53 - 1)) * 2.0**-53


def _box_muller(bits: np.ndarray) -> np.ndarray:
    """Normal values of uniform 24-bit ones, in blocks of 16; a rest is left over."""
    uniform = (bits & np.uint32(0xFFFFFF)).astype(np.float32) * np.float32(2.0**-24)
    blocks = uniform[: len(bits) // 16 * 16].reshape(-1, 2, 8)
    radius = np.sqrt(np.float32(-2.0) * _log(np.float32(1.0) - blocks[:, 0]))
    sine, cosine = _sine_and_cosine(np.float32(2.0 * math.pi) * blocks[:, 1])
    values = np.zeros(len(bits), np.float32)
    pairs = np.stack([radius * cosine, radius * sine], axis=1)
    values[: pairs.size] = pairs.reshape(-1)
    return values


def _fused(a, b, c) -> np.ndarray:
    """`a * b + c` in float32, rounded once, as processors with FMA do."""
    a, b, c = (np.asarray(each, np.float32).astype(np.float64) for each in (a, b, c))
    return (a * b + c).astype(np.float32)


def _polynomial(x: np.ndarray, coefficients: Sequence[float]) -> np.ndarray:
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = _fused(value, x, coefficient)
    return value


# The logarithm, sine and cosine of the Cephes library in float32, operation by
# operation as PyTorch's vectorised code computes them: numpy's own differ in the last
# digits, and then a seed's noise is not the same to the bit.
_LOG = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1)
_LOG += (1.4249322787e-1, -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1)
_LOG += (3.3333331174e-1,)
_SINE = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COSINE = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
_QUARTER_PI = (0.78515625, 2.4187564849853515625e-4, 3.77489497744594108e-8)


def _log(x: np.ndarray) -> np.ndarray:
    fraction, exponent = np.frexp(x)
    low = fraction < np.float32(math.sqrt(0.5))
    exponent = exponent.astype(np.float32) - low
    fraction = fraction - np.float32(1.0) + np.where(low, fraction, np.float32(0.0))
    square = fraction * fraction
    value = _polynomial(fraction, _LOG) * fraction
    value = _fused(value, square, exponent * np.float32(-2.12194440e-4))
    value = _fused(square, -0.5, value)
    return _fused(exponent, 0.693359375, fraction + value)


def _sine_and_cosine(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of angles from 0 on."""
    octant = (x * np.float32(4.0 / math.pi)).astype(np.int32)
    octant = (octant + 1) & ~1
    for part in _QUARTER_PI:
        x = _fused(octant, -part, x)
    square = x * x
    half = square * np.float32(0.5)
    cosine = _fused(_polynomial(square, _COSINE) * square, square, -half)
    cosine = cosine + np.float32(1.0)
    sine = _fused(_polynomial(square, _SINE) * square, x, x)
    swapped = octant & 2 != 0
    sine, cosine = np.where(swapped, cosine, sine), np.where(swapped, sine, cosine)
    return (
        np.where(octant & 4, -sine, sine),
        np.where((octant + 2) & 4, -cosine, cosine),
    )


class TorchCUDA:
    """`torch.randn` on an NVIDIA GPU, for up to some 100,000 values in each call.

    Philox 4x32-10, keyed by the seed: the n-th value of the k-th call is made of the
    first two words of counter `(k, 0, n, 0)`. This is how AUTOMATIC1111's web UI takes
    it (`randn_source` "NV"); of tensors that are larger than a GPU has threads for, in
    steps of four, PyTorch itself takes the other words too.

    Args:
        seed: From 0 to 2**64 - 1.

    Reference:
        Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3"; cuRAND's
        `_curand_box_muller`.
    """

    def __init__(self, seed: int):
        self._seed = seed
        self._calls = 0

    def normal(self, shape: Sequence[int]) -> np.ndarray:
        """float32 standard normal values of a shape."""
        size = math.prod(shape)
        counters = np.zeros((4, size), np.uint32)
        counters[0] = self._calls
        counters[2] = np.arange(size)
        self._calls += 1
        key = np.array([self._seed & 0xFFFFFFFF, self._seed >> 32], np.uint32)
        first, second = philox(counters, key)[:2]
        # In float64 but for the constants, as the web UI does.
        u = first * _INVERSE + _INVERSE / 2
        v = second * _TURN + _TURN / 2
        radius = np.sqrt(-2.0 * np.log(u))
        return (radius * np.sin(v)).astype(np.float32).reshape(shape)


def philox(counters: np.ndarray, key: np.ndarray, rounds: int = 10) -> np.ndarray:
    """Philox 4x32.

    Args:
        counters: uint32 of shape `(4, n)`.
        key: uint32 of shape `(2,)`.
        rounds: How often they are mixed.

    Returns:
        uint32 of shape `(4, n)`.

    Reference:
        Salmon et al. 2011, section 3.3.
    """
    a, b, c, d = np.asarray(counters, np.uint32)
    low, high = np.asarray(key, np.uint32)
    for _ in range(rounds):
        first = a.astype(np.uint64) * _MULTIPLIERS[0]
        second = c.astype(np.uint64) * _MULTIPLIERS[1]
        a, b, c, d = (
            (second >> np.uint64(32)).astype(np.uint32) ^ b ^ low,
            second.astype(np.uint32),
            (first >> np.uint64(32)).astype(np.uint32) ^ d ^ high,
            first.astype(np.uint32),
        )
        with np.errstate(over="ignore"):
            low, high = low + _WEYL[0], high + _WEYL[1]
    return np.stack([a, b, c, d])

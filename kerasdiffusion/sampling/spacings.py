"""How a sampler's steps are spaced over the training steps: a line in a table each.

To add a spacing, write a function from a schedule and a number of steps and enter it in
`OF_TIMESTEPS` or `OF_SIGMAS`, by what it returns: falling, one for each step.
"""

from __future__ import annotations

import difflib
import re

import numpy as np

from kerasdiffusion.storage.bounds import shown

# NVIDIA's published noise levels for ten steps, the last of which ends at 0.
_ALIGNED = {
    "sd1": (
        *(14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152),
        0.029,
    ),
    "sdxl": (
        *(14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113),
        0.029,
    ),
}


def _leading(schedule, count: int, open_end: bool, offset: int | None = None):
    """Every so many training steps from the first on (Lin et al. 2024, table 2)."""
    stride = max(schedule.config.train_steps // (count + open_end), 1)
    timesteps = np.arange(open_end, count + open_end) * float(stride)
    # The offset would lead past the last training step when all are asked for.
    room = schedule.config.train_steps - 1 - timesteps[-1]
    offset = schedule.config.steps_offset if offset is None else offset
    return timesteps[::-1] + min(offset, room)


def _ddim_uniform(schedule, count: int, open_end: bool):
    """ComfyUI's `ddim_uniform`: leading with the offset 1, of so many steps."""
    return _leading(schedule, count, False, offset=1)


def _trailing(schedule, count: int, open_end: bool):
    """Every so many training steps from the last on (Lin et al. 2024, table 2)."""
    stride = schedule.config.train_steps / count
    return np.round(schedule.config.train_steps - np.arange(count) * stride) - 1


def _linspace(schedule, count: int, open_end: bool):
    """Even from the last training step to the first (Lin et al. 2024, table 2)."""
    last = schedule.config.train_steps - 1
    if count + open_end == 1:
        return np.array([float(last)])
    return np.linspace(0, last, count + open_end)[::-1][:count]


def _simple(schedule, count: int, open_end: bool):
    """ComfyUI's `simple`: every so many training steps from the last on, cut off."""
    length = schedule.config.train_steps
    return length - 1.0 - np.arange(count) * length // count


def _lcm(schedule, count: int, open_end: bool):
    """Of the 50 timesteps that a distillation was trained on (diffusers' LCM, TCD).

    More steps are taken of as many.
    """
    known = max(50, count)
    stride = schedule.config.train_steps // known
    timesteps = np.arange(known, 0, -1) * stride - 1.0
    return timesteps[np.arange(count) * known // count]


def _beta_timesteps(schedule, count: int, open_end: bool):
    """Quantiles of a beta distribution (Lee et al. 2024), as ComfyUI's `beta`."""
    last = schedule.config.train_steps - 1
    quantiles = beta_quantile(1.0 - np.arange(count) / count)
    timesteps = np.rint(quantiles * last)
    # Where several round to one training step, ComfyUI makes fewer steps; these go on
    # below, and those at the lower end above.
    falling = np.arange(count)
    timesteps = np.minimum.accumulate(timesteps + falling) - falling
    rising = falling[::-1]
    return np.maximum(timesteps, rising)


def karras(sigma_max: float, sigma_min: float, count: int, rho: float = 7.0):
    """Equal steps in sigma^(1/rho) (Karras et al. 2022, equation 5)."""
    ramp = np.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), count)
    return ramp**rho


def _karras(schedule, count: int):
    return karras(schedule.sigmas[-1], schedule.sigmas[0], count)


def _exponential(schedule, count: int):
    """Equal steps in log sigma; k-diffusion's polyexponential of rho 1 as well."""
    return np.geomspace(schedule.sigmas[-1], schedule.sigmas[0], count)


def _normal(schedule, count: int):
    """Even in timesteps, sigma geometric between them: k-diffusion's `get_sigmas`."""
    return _sigmas_of(schedule, _linspace(schedule, count, False))


def _sgm_uniform(schedule, count: int):
    """generative-models' spacing: as `normal` with a step more, the last left out."""
    return _sigmas_of(schedule, _linspace(schedule, count, True))


def _sigmas_of(schedule, timesteps):
    known = np.log(schedule.sigmas)
    return np.exp(np.interp(timesteps, np.arange(len(known)), known))


def _beta(schedule, count: int):
    """Sigmas at quantiles of a beta distribution: the web UI's and diffusers'."""
    return _beta_between(schedule.sigmas[-1], schedule.sigmas[0], count)


def _kl_optimal(schedule, count: int):
    """Even in arctan sigma (Sabour et al. 2024, equation 12)."""
    return np.tan(np.linspace(*np.arctan(schedule.sigmas[[-1, 0]]), count))


def _align_your_steps(schedule, count: int, levels: int | None = None):
    """NVIDIA's levels (Sabour et al. 2024), geometric between them."""
    known = np.log(_ALIGNED[schedule.config.align_your_steps])
    places = np.linspace(0, len(known) - 1, levels or count + 1)[:count]
    return np.exp(np.interp(places, np.arange(len(known)), known))


def _align_your_steps_11(schedule, count: int):
    """The web UI's: over all eleven levels, so that ten steps are not NVIDIA's."""
    return _align_your_steps(schedule, count, levels=count)


OF_TIMESTEPS = {
    "leading": _leading,
    "trailing": _trailing,
    "linspace": _linspace,
    "simple": _simple,
    "ddim_uniform": _ddim_uniform,
    "beta_timesteps": _beta_timesteps,
    "lcm": _lcm,
}
OF_SIGMAS = {
    "normal": _normal,
    "sgm_uniform": _sgm_uniform,
    "karras": _karras,
    "exponential": _exponential,
    "polyexponential": _exponential,
    "beta": _beta,
    "kl_optimal": _kl_optimal,
    "align_your_steps": _align_your_steps,
    "align_your_steps_11": _align_your_steps_11,
}


def _over(spaced, way):
    """A way over sigmas whose ends are those of spaced timesteps, as in diffusers."""

    def between(schedule, count: int):
        ends = schedule.sigma_at(spaced(schedule, count, False)[[0, -1]])
        return way(*ends, count)

    return between


def _beta_between(high: float, low: float, count: int):
    return low + beta_quantile(np.linspace(1.0, 0.0, count)) * (high - low)


OF_SIGMAS |= {
    f"{name}_{spacing}": _over(OF_TIMESTEPS[spacing], way)
    for spacing in ("leading", "trailing")
    for name, way in (
        ("karras", karras),
        ("exponential", np.geomspace),
        ("beta", _beta_between),
    )
}
SPACINGS = (*OF_TIMESTEPS, *OF_SIGMAS)

#: What the web UI, ComfyUI and people call them.
ALIASES = {
    "Uniform": "normal",
    "SGMUniform": "sgm_uniform",
    "DDIM": "ddim_uniform",
    "Turbo": "trailing",
    "AYS": "align_your_steps",
}


def find_spacing(name: str) -> str:
    """The canonical name of a spacing; case, spaces and punctuation do not matter.

    Raises:
        TypeError: If the name is not a string.
        ValueError: If there is none of that name; the message has the near ones.
    """
    if not isinstance(name, str):
        raise TypeError(f"`spacing` must be a string. Received: {name!r}")
    known = {_plain(each): each for each in SPACINGS}
    known.update((_plain(alias), each) for alias, each in ALIASES.items())
    if _plain(name) in known:
        return known[_plain(name)]
    near = difflib.get_close_matches(_plain(name)[:200], known, n=3, cutoff=0.6)
    near = list(dict.fromkeys(known[each] for each in near))
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(
        f"`spacing` must be one of {', '.join(SPACINGS)}.{hint} Received: {shown(name)}"
    )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def beta_quantile(shares: np.ndarray, shape: float = 0.6) -> np.ndarray:
    """Where a beta distribution of two equal shapes has a share of itself below.

    The density `(x (1 - x))^(shape - 1)` as a power series, its integral bisected.
    """
    shares = np.asarray(shares, np.float64)
    orders = np.arange(80)
    # (1 - x)^(shape - 1) = sum_k c_k x^k
    factors = np.cumprod(np.append(1.0, (orders[:-1] + 1.0 - shape) / orders[1:]))
    factors /= orders + shape

    def below(x):  # For x up to 1/2, where half of it lies.
        return x**shape * np.polynomial.polynomial.polyval(x, factors)

    wanted = np.minimum(shares, 1.0 - shares) * 2.0 * below(0.5)
    low, high = np.zeros_like(shares), np.full_like(shares, 0.5)
    for _ in range(60):
        middle = (low + high) / 2
        under = below(middle) < wanted
        low, high = np.where(under, middle, low), np.where(under, high, middle)
    x = np.where(wanted > 0.0, (low + high) / 2, 0.0)
    x = np.where(shares == 0.5, 0.5, x)
    return np.where(shares > 0.5, 1.0 - x, x)

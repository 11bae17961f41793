"""KerasCV's constants: the schedule's shares of signal, and the empty prompt."""

from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling.schedule import Schedule

_ALPHAS_CUMPROD = Schedule(ScheduleConfig()).alphas_cumprod.tolist()
_UNCONDITIONAL_TOKENS = [49406] + [49407] * 76

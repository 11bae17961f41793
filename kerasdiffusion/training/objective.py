"""What a network is taught, in values: kinds of noise, its levels, and the loss."""

from __future__ import annotations

from dataclasses import dataclass

LOSSES = ("mse", "huber", "smooth_l1")
HUBER_SCHEDULES = ("snr", "exponential", "constant")


@dataclass(frozen=True)
class Objective:
    """Which noise is put on latents, and what an error of the prediction counts.

    What the network predicts (epsilon, v or the clean latents) and whether the last
    timestep is noise alone are the model's: `StableDiffusion(prediction_type=...,
    zero_terminal_snr=...)` says them where a file does not.

    Args:
        loss: `"mse"`; `"huber"` or `"smooth_l1"`, in which large errors count less.
        huber_c: Where these turn from squares to absolute values, over 0.
        huber_schedule: How that depends on the timestep: `"snr"` and
            `"exponential"` have it fall from 1 to `huber_c` as noise grows;
            `"constant"`.
        snr_gamma: Cap of the signal-to-noise ratio in the loss's weight (min-SNR, 5
            in the paper); `None` weighs every timestep alike.
        debiased: Whether errors are weighed by one over the root of the ratio.
        offset_noise: How much noise there is that is the same for a whole channel
            (0.05 to 0.1): pictures may then be very dark or bright.
        pyramid_noise: How much noise of ever lower resolutions is added, the factor
            from one to the next (0.1 to 0.4); 0 is none.
        input_perturbation: How much more noise the network sees than it is to predict
            (0.1 in the paper).
        timesteps: The first timestep that is drawn, and the one after the last.
        noise_bias: How much oftener noisy timesteps are drawn: the density of
            timestep t is proportional to `t**noise_bias`, from the first on. 0 draws
            all alike; above -1.
        caption_dropout: Share of captions exchanged for the empty one, from 0 to 1,
            so that guidance has an unconditional prediction.

    Raises:
        ValueError: If one is out of its range.

    Example:

    >>> Objective(loss="huber", snr_gamma=5.0).loss
    'huber'

    Reference:
        Ho et al. 2020, "Denoising Diffusion Probabilistic Models", algorithm 1;
        Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting
        Strategy", section 3.4; Yu et al. 2023, "Unmasking Bias in Diffusion Model
        Training", equation 11; Ning et al. 2023, "Input Perturbation Reduces Exposure
        Bias in Diffusion Models", algorithm 1; kohya-ss/sd-scripts
        `library/train_util.py` (`conditional_loss`) and
        `library/custom_train_functions.py` for the losses and the kinds of noise.
    """

    loss: str = "mse"
    huber_c: float = 0.1
    huber_schedule: str = "snr"
    snr_gamma: float | None = None
    debiased: bool = False
    offset_noise: float = 0.0
    pyramid_noise: float = 0.0
    input_perturbation: float = 0.0
    timesteps: tuple[int, int] = (0, 1000)
    noise_bias: float = 0.0
    caption_dropout: float = 0.0

    def __post_init__(self):
        for name, known in (("loss", LOSSES), ("huber_schedule", HUBER_SCHEDULES)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"`{name}` must be one of {', '.join(known)}. "
                    f"Received: {getattr(self, name)!r}"
                )
        for name, fits, rule in (
            ("huber_c", self.huber_c > 0, "over 0"),
            ("snr_gamma", self.snr_gamma is None or self.snr_gamma > 0, "over 0"),
            ("offset_noise", self.offset_noise >= 0, "0 or more"),
            ("pyramid_noise", 0 <= self.pyramid_noise < 1, "from 0 to under 1"),
            ("input_perturbation", self.input_perturbation >= 0, "0 or more"),
            ("noise_bias", self.noise_bias > -1, "above -1"),
            ("caption_dropout", 0 <= self.caption_dropout <= 1, "from 0 to 1"),
        ):
            if not fits:
                raise ValueError(
                    f"`{name}` must be {rule}. Received: {name}={getattr(self, name)}"
                )
        if self.debiased and self.snr_gamma is not None:
            raise ValueError(
                "`debiased` and `snr_gamma` are two weights for one thing: give one. "
                f"Received: debiased=True, snr_gamma={self.snr_gamma}"
            )

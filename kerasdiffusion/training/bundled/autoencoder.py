"""Training of the autoencoder: `fit()` on pictures."""

from __future__ import annotations

import keras
from keras import ops

from kerasdiffusion.compute.devices import shared
from kerasdiffusion.models.autoencoder import Decoder, ImageEncoder
from kerasdiffusion.networks.quantization import check_learns
from kerasdiffusion.training.trainer import Trainer


class AutoencoderTrainer(Trainer):
    """The encoder and decoder as one model whose `fit()` takes pictures.

    The loss is the absolute error of pixels and of the differences between
    neighbouring pixels (which keeps edges sharp), and a little of the posterior's
    divergence from a normal distribution.

    Args:
        image_encoder: An `ImageEncoder`.
        decoder: A `Decoder` of the same configuration.
        edge_weight: Weight of the edge term.
        kl_weight: Weight of the divergence, a mean over latents.
        seed: Seed of the draws from the posterior.

    Example:

    >>> config = AutoencoderConfig(block_widths=(32,), blocks_per_level=1)
    >>> trainer = AutoencoderTrainer(ImageEncoder(config), Decoder(config))
    >>> trainer.compile("adam")
    >>> history = trainer.fit(np.zeros((2, 16, 16, 3), "float32"), verbose=0)

    Reference:
        Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion
        Models", section 3.1 and appendix G.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        decoder: Decoder,
        edge_weight: float = 1.0,
        kl_weight: float = 1e-3,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_learns(image_encoder, decoder)
        self.image_encoder, self.decoder = image_encoder, decoder
        self.edge_weight, self.kl_weight = edge_weight, kl_weight
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.metric_l1 = keras.metrics.Mean(name="l1")

    def call(self, images):
        mean, log_variance = (
            ops.cast(x, "float32") for x in self.image_encoder.moments(images)
        )
        noise = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
        latents = mean + ops.exp(0.5 * log_variance) * noise
        return {
            "images": self.decoder(latents * self.decoder.config.scale_factor),
            "mean": mean,
            "log_variance": log_variance,
        }

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **kwargs):
        images, drawn = ops.cast(x, "float32"), ops.cast(y_pred["images"], "float32")
        difference = drawn - images
        l1 = ops.mean(ops.abs(difference))
        edges = ops.mean(ops.abs(difference[:, 1:] - difference[:, :-1])) + ops.mean(
            ops.abs(difference[:, :, 1:] - difference[:, :, :-1])
        )
        mean, log_variance = y_pred["mean"], y_pred["log_variance"]
        kl = 0.5 * ops.mean(mean**2 + ops.exp(log_variance) - 1.0 - log_variance)
        self.metric_l1.update_state(l1)
        return shared(l1 + self.edge_weight * edges + self.kl_weight * kl)

"""Steps of diffusers' training scripts and of ours, from the same numbers.

Noise is added by `DDPMScheduler`, the loss is the mean squared error, the optimizer
`torch.optim.AdamW`; adapters are PEFT's layers.
"""

import diffusers
import keras
import numpy as np
import peft
import torch
import transformers

from kerasdiffusion.compute.backend import to_numpy
from tests.peers.networks import channels_first

STEPS, RATE = 20, 1e-3
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
#: What `LoRA(modules="attention")` is in PEFT's words.
TARGETS = {
    "unet": ["to_q", "to_k", "to_v", "to_out.0"],
    "text_encoder": ["q_proj", "k_proj", "v_proj", "out_proj"],
}
PARTS = {"unet": "diffusion_model", "text_encoder": "text_encoder"}


def batches(config, steps=STEPS, tokens=None, seed=0):
    """Latents, noise, timesteps and text for each step."""
    random = np.random.default_rng(seed)

    def normal(*size):
        return random.normal(size=size).astype("float32")

    for _ in range(steps):
        batch = {
            "latents": normal(2, 8, 8, 4),
            "noise": normal(2, 8, 8, 4),
            "timestep": random.integers(0, 1000, 2).astype("int32"),
        }
        if tokens is not None:
            batch["tokens"] = tokens
        else:
            width = config.diffusion_model.context_width
            batch["context"] = normal(2, 12, width)
        if config.diffusion_model.vector_width:
            batch["pooled"] = normal(2, 24)
            sizes = [[64, 48, 0, 4, 64, 64], [80, 64, 2, 0, 64, 64]]
            batch["sizes"] = np.array(sizes, "float32")
        yield batch


def networks(folder, model):
    """diffusers' and transformers' networks with our weights."""
    model.save_preset(folder)
    found = {"unet": diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")}
    if model.config.text_encoder_2 is None:
        found["text_encoder"] = transformers.CLIPTextModel.from_pretrained(
            folder / "text_encoder"
        )
    for network in found.values():
        network.requires_grad_(False)
    return found


def losses_of(theirs, batch, kind="epsilon", weigh=None):
    """The squared errors of a step of diffusers' scripts, `(batch, c, h, w)`."""
    scheduler = diffusers.DDPMScheduler(**SCHEDULE, prediction_type=kind)
    latents, noise = (channels_first(batch[name]) for name in ("latents", "noise"))
    timestep = torch.from_numpy(batch["timestep"]).long()
    if "tokens" in batch:
        tokens = torch.from_numpy(batch["tokens"]).long()
        context = theirs["text_encoder"](tokens)[0]
    else:
        context = torch.from_numpy(batch["context"])
    beside = {}
    if "sizes" in batch:
        beside["added_cond_kwargs"] = {
            "text_embeds": torch.from_numpy(batch["pooled"]),
            "time_ids": torch.from_numpy(batch["sizes"]),
        }
    noisy = scheduler.add_noise(latents, noise, timestep)
    prediction = theirs["unet"](noisy, timestep, context, **beside).sample
    wanted = noise
    if kind == "v_prediction":
        wanted = scheduler.get_velocity(latents, noise, timestep)
    return torch.nn.functional.mse_loss(prediction, wanted, reduction="none")


def adamw(parameters, rate=RATE):
    """Their epsilon is the paper's, Keras's is its epsilon hat: neither may count."""
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01, eps=1e-12)


def ours_adamw(rate=RATE):
    return keras.optimizers.AdamW(rate, weight_decay=0.01, epsilon=1e-13)


def our_step(trainer, batch) -> float:
    trainer.reset_metrics()
    return float(trainer.train_on_batch(batch, return_dict=True)["loss"])


def name_in(network, module):
    """A canonical name as a peer's network has it: transformers 5 has it shorter."""
    names = {name for name, _ in network.named_modules()}
    return module if module in names else module.removeprefix("text_model.")


def add_lora(theirs, trainer, rank=4, dora=False):
    """PEFT's layers with the factors that ours begin with; both, of each module."""
    pairs = []
    for name, network in theirs.items():
        factors = trainer.taught.get(PARTS[name])
        if factors is None:
            continue
        peft.inject_adapter_in_model(
            peft.LoraConfig(
                r=rank,
                lora_alpha=rank,
                target_modules=TARGETS[name],
                use_dora=dora,
            ),
            network,
        )
        modules = dict(network.named_modules())
        for entry in factors.entries():
            layer = modules[name_in(network, entry.module)]
            low = entry.change.change if dora else entry.change
            found = {"down": layer.lora_A, "up": layer.lora_B}
            for slot, own in found.items():
                with torch.no_grad():
                    values = torch.from_numpy(getattr(low, slot).copy())
                    own["default"].weight.copy_(values)
                pairs.append((entry.module, slot, own["default"].weight))
            if dora:
                vector = layer.lora_magnitude_vector["default"].weight
                pairs.append((entry.module, "magnitude", vector))
    return pairs


def factors_of(trainer):
    """Our factors by module and slot, as PEFT shapes them."""
    found = {}
    for factors in trainer.taught.values():
        for module, variables in factors._table.items():
            for slot, variable in variables.items():
                values = to_numpy(variable)
                found[module, slot] = values.ravel() if slot == "magnitude" else values
    return found


def enliven(trainer, seed=5):
    """Random numbers in all that is taught, so that every factor has a gradient."""
    random = np.random.default_rng(seed)
    for variable in trainer.trainable_variables:
        values = to_numpy(variable)
        variable.assign(values + 0.05 * random.normal(size=values.shape))

"""What a file says of its making, in the words that other programs look for.

The web UI tells an adapter's family by `ss_base_model_version` and `ss_v2` alone.

Reference:
    kohya-ss/sd-scripts `train_network.py` and `library/sai_model_spec.py` for the keys
    and their values; AUTOMATIC1111/stable-diffusion-webui
    `extensions-builtin/Lora/network.py` for what is read; Stability-AI/ModelSpec.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kerasdiffusion._version import __version__
from kerasdiffusion.adapters.families import FAMILIES, family_of
from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.storage.reading import open_regular
from kerasdiffusion.training.examples.batches import Sample
from kerasdiffusion.training.lessons.lesson import WITH_ADAPTER, Lesson
from kerasdiffusion.weights.fingerprint import of_file

#: What kohya's scripts call what they teach.
_MODULES = {"lora": "networks.lora", "dora": "networks.lora"}
_LYCORIS = "lycoris.kohya"


def notes(
    lesson: Lesson,
    config: ModelConfig,
    base: str | os.PathLike,
    samples: Sequence[Sample],
    *,
    title: str,
    steps_per_epoch: int,
    precision: str = "float32",
    started: float | None = None,
) -> dict[str, str]:
    """Texts for a file's header.

    Args:
        lesson: How it was taught, settled.
        config: Of the model.
        base: Where the model is from.
        samples: The pictures, with their buckets.
        title: What it is called.
        steps_per_epoch: Batches an epoch.
        precision: The networks' dtype policy.
        started: When the run began, in seconds of the epoch.
    """
    now = time.time()
    session = hashlib.sha256(repr((title, started)).encode()).hexdigest()[:8]
    found = _of_training(lesson, steps_per_epoch, precision)
    found |= _of_model(config, base) | _of_pictures(lesson, samples)
    found |= {
        "ss_output_name": title,
        "ss_training_started_at": now if started is None else started,
        "ss_training_finished_at": now,
        "ss_session_id": int(session, 16),
    }
    told = {key: str(value) for key, value in found.items()}
    return told | model_spec(lesson, config, title, now)


def model_spec(
    lesson: Lesson, config: ModelConfig, title: str, date: float
) -> dict[str, str]:
    """The model specification's part, which is the same for every kind of file."""
    version = _version(config)
    is_v = config.schedule.prediction_type == "v_prediction"
    architecture = {
        "sd_v1": "stable-diffusion-v1",
        "sd_v2": "stable-diffusion-v2-512",
        "sd_v2_v": "stable-diffusion-v2-768-v",
        "sdxl_base_v1-0": "stable-diffusion-xl-v1-base",
    }.get(version, version)
    if lesson.kind in WITH_ADAPTER:
        architecture += "/lora"
    elif lesson.kind == "textual-inversion":
        architecture += "/textual-inversion"
    is_sgm = version.startswith("sdxl_") or not architecture.endswith("/lora")
    side = lesson.resolution[-1]
    told = {
        "sai_model_spec": "1.0.1",
        "architecture": architecture,
        "implementation": "https://github.com/Stability-AI/generative-models"
        if is_sgm
        else "diffusers",
        "implementation_version": f"kerasdiffusion/{__version__}",
        "title": title,
        "resolution": f"{side}x{side}",
        "date": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(date)),
        "prediction_type": "v" if is_v else "epsilon",
    }
    if lesson.word or lesson.instance_prompt:
        told["trigger_phrase"] = lesson.word or lesson.instance_prompt
    return {f"modelspec.{key}": value for key, value in told.items()}


def _version(config: ModelConfig) -> str:
    """What kohya's scripts call a model's family; of others, that it is none of them.

    (The web UI takes what is neither SD 2 nor SDXL for SD 1 whatever it says.)
    """
    if family_of(config) not in FAMILIES:
        return "latent-diffusion"
    if config.diffusion_model.vector_width:
        return "sdxl_base_v1-0"
    is_v = config.schedule.prediction_type == "v_prediction"
    return f"sd_v{2 if config.text_encoder.is_open_clip else 1}{'_v' * is_v}"


def _of_model(config: ModelConfig, base) -> dict:
    version, name = _version(config), os.fspath(base)
    found = {
        "ss_base_model_version": version,
        "ss_v2": version.startswith("sd_v2"),
        "ss_sd_model_name": Path(name).name if os.path.exists(name) else name,
        "ss_zero_terminal_snr": config.schedule.zero_terminal_snr,
    }
    if os.path.isfile(name):
        found["ss_sd_model_hash"] = _old_hash(name)
        found["ss_new_sd_model_hash"] = of_file(name)
    return found


def _old_hash(path: str) -> str:
    """Eight letters of 64 KiB in the middle, by which the web UI once named models."""
    with open_regular(path) as file:
        file.seek(0x100000)
        return hashlib.sha256(file.read(0x10000)).hexdigest()[:8]


def _of_training(lesson: Lesson, steps_per_epoch: int, precision: str) -> dict:
    half = {"float16": "fp16", "bfloat16": "bf16"}
    found = {
        "ss_learning_rate": lesson.learning_rate,
        "ss_unet_lr": lesson.learning_rate,
        "ss_text_encoder_lr": lesson.learning_rate * lesson.text_encoders,
        "ss_steps": lesson.steps,
        "ss_max_train_steps": lesson.steps,
        "ss_num_batches_per_epoch": steps_per_epoch,
        "ss_num_epochs": -(-lesson.steps // steps_per_epoch),
        "ss_epoch": -(-lesson.steps // steps_per_epoch),
        "ss_lr_scheduler": lesson.schedule,
        "ss_lr_warmup_steps": lesson.warm_up,
        "ss_optimizer": lesson.optimizer,
        "ss_max_grad_norm": lesson.clip,
        "ss_gradient_checkpointing": bool(lesson.remat),
        "ss_gradient_accumulation_steps": lesson.accumulate,
        "ss_mixed_precision": next(
            (name for key, name in half.items() if precision.endswith(key)), "no"
        ),
        "ss_clip_skip": lesson.clip_skip,
        "ss_max_token_length": _tokens_of(lesson),
        "ss_seed": lesson.seed,
        "ss_noise_offset": lesson.offset_noise or None,
        "ss_multires_noise_discount": lesson.pyramid_noise,
        "ss_ip_noise_gamma": lesson.input_perturbation or None,
        "ss_min_snr_gamma": lesson.snr_gamma,
        "ss_debiased_estimation": lesson.debiased,
        "ss_loss_type": {"mse": "l2"}.get(lesson.loss, lesson.loss),
        "ss_huber_c": lesson.huber_c,
        "ss_prior_loss_weight": lesson.prior_weight,
        "ss_caption_dropout_rate": lesson.caption_dropout,
        "ss_caption_tag_dropout_rate": lesson.tag_dropout,
        "ss_cache_latents": True,
        "ss_training_comment": None,
    }
    if lesson.kind in WITH_ADAPTER:
        args = {} if lesson.algorithm == "lora" else {"algo": lesson.algorithm}
        if lesson.algorithm == "dora":
            args = {"dora_wd": True}
        if lesson.modules == "all":
            args |= {"conv_dim": lesson.rank, "conv_alpha": lesson.alpha or lesson.rank}
        found |= {
            "ss_network_module": _MODULES.get(lesson.algorithm, _LYCORIS),
            "ss_network_dim": lesson.rank,
            "ss_network_alpha": float(lesson.alpha or lesson.rank),
            "ss_network_args": json.dumps(args),
        }
    return found


def _tokens_of(lesson: Lesson) -> int | None:
    """The tokens of a caption where they are more than one chunk's."""
    return 75 * lesson.caption_chunks if (lesson.caption_chunks or 1) > 1 else None


def _of_pictures(lesson: Lesson, samples: Sequence[Sample]) -> dict:
    own = [each for each in samples if not each.picture.is_class]
    folders, tags = {}, {}
    for each in own:
        picture = each.picture
        name = f"{picture.repeats}_{picture.name or picture.path.parent.name}"
        folder = folders.setdefault(
            name, {"n_repeats": picture.repeats, "img_count": 0}
        )
        folder["img_count"] += 1
        said = (tag.strip() for tag in picture.caption.split(","))
        tags.setdefault(name, Counter()).update(tag for tag in said if tag)
    buckets = Counter(each.fit.bucket for each in own)
    told = {
        "buckets": {
            str(i): {"resolution": [width, height], "count": count}
            for i, ((height, width), count) in enumerate(sorted(buckets.items()))
        }
    }
    sides = [side for size in buckets for side in size]
    largest = lesson.resolution[-1]
    shown = {
        "is_dreambooth": True,
        "batch_size_per_device": lesson.batch_size,
        "num_train_images": sum(each.picture.repeats for each in own),
        "num_reg_images": len(samples) - len(own),
        "resolution": [largest, largest],
        "enable_bucket": lesson.buckets,
        "keep_tokens": lesson.keep_tokens,
        "shuffle_caption": lesson.shuffle_captions,
        "flip_aug": lesson.flip,
        "bucket_no_upscale": not lesson.upscale,
        "tag_frequency": tags,
        "bucket_info": told,
    }
    return {
        "ss_num_train_images": shown["num_train_images"],
        "ss_num_reg_images": shown["num_reg_images"],
        "ss_batch_size_per_device": lesson.batch_size,
        "ss_total_batch_size": lesson.batch_size * lesson.accumulate,
        "ss_resolution": (largest, largest),
        "ss_enable_bucket": lesson.buckets,
        "ss_bucket_no_upscale": not lesson.upscale,
        "ss_min_bucket_reso": min(sides),
        "ss_max_bucket_reso": max(sides),
        "ss_bucket_info": json.dumps(told),
        "ss_shuffle_caption": lesson.shuffle_captions,
        "ss_keep_tokens": lesson.keep_tokens,
        "ss_dataset_dirs": json.dumps(folders),
        "ss_tag_frequency": json.dumps(tags, ensure_ascii=False),
        "ss_datasets": json.dumps([shown], ensure_ascii=False),
    }

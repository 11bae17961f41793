"""What other programs call this library's keywords, parameters and flags.

Reference:
    Keywords of diffusers' pipelines; fields of A1111's API (`modules/api/models.py`,
    `modules/processing.py`) and of ComfyUI's nodes (`nodes.py`); flags of CompVis
    `scripts/txt2img.py`, stable-diffusion.cpp and InvokeAI.
"""

from __future__ import annotations

#: Keywords of tasks, by what others call them.
KEYWORDS = {
    **dict.fromkeys(
        ("guidance_scale", "cfg_scale", "cfg", "scale", "text_cfg"),
        "unconditional_guidance_scale",
    ),
    **dict.fromkeys(
        (
            "num_inference_steps",
            "steps",
            "ddim_steps",
            "inference_steps",
            "sample_steps",
            "n_steps",
        ),
        "num_steps",
    ),
    **dict.fromkeys(
        (
            "num_images_per_prompt",
            "num_images",
            "n_samples",
            "n_iter",
            "batch_count",
            "num_outputs",
        ),
        "batch_size",
    ),
    **dict.fromkeys(("generator", "noise_seed", "rng_seed"), "seed"),
    **dict.fromkeys(
        ("sampler_name", "sampler_index", "scheduler", "sampling_method"), "sampler"
    ),
    **dict.fromkeys(("schedule", "schedule_type", "timestep_spacing"), "spacing"),
    **dict.fromkeys(("denoising_strength", "denoise", "image_strength"), "strength"),
    **dict.fromkeys(("init_image", "init_img", "init_images", "input_image"), "image"),
    **dict.fromkeys(("mask_image", "mask_img"), "mask"),
    **dict.fromkeys(("mask_blur", "grow_mask_by"), "feather"),
    **dict.fromkeys(("padding_mask_crop", "inpaint_full_res_padding"), "padding"),
    **dict.fromkeys(
        ("control_image", "controlnet", "controlnet_conditioning_scale"), "control"
    ),
    **dict.fromkeys(("subseed", "var_seed"), "variation_seed"),
    **dict.fromkeys(("subseed_strength", "var_strength"), "variation_strength"),
    **dict.fromkeys(("depth_map", "depth_image"), "depth"),
    **dict.fromkeys(
        ("callback_on_step_end", "step_callback", "callback_steps"), "callback"
    ),
    "clip_stop_at_last_layers": "clip_skip",
    "positive": "prompt",
    "text": "prompt",
    "negative": "negative_prompt",
    "image_cfg_scale": "image_guidance_scale",
    "img_cfg": "image_guidance_scale",
    "crops_coords_top_left": "crop",
    "denoising_end": "refiner_start",
    "high_noise_frac": "refiner_start",
    "refiner_switch_at": "refiner_start",
    "verbose": "progress_bar",
    "latents": "diffusion_noise",
    "prompt_embeds": "encoded_text",
    "pooled_prompt_embeds": "pooled_text",
    "num_frames": "frames",
    "tome_ratio": "merge_tokens",
    "token_merging_ratio": "merge_tokens",
    "sigma": "sigmas",
}
_SIZE = (
    "the size is the model's, StableDiffusion.from_preset(..., img_height=512, "
    "img_width=512)"
)
#: What is no keyword of a task here, but something else.
ELSEWHERE = {
    **dict.fromkeys(("height", "width", "img_height", "img_width", "size"), _SIZE),
    "output_type": "pictures are uint8 arrays; PIL.Image.fromarray(pictures[0]) is one",
    "return_dict": "what is returned is an array of pictures",
    "negative_prompt_embeds": "`negative_prompt` takes what `encode_text` gives",
    "cross_attention_kwargs": "weights of adapters are the model's",
    "num_inference_timesteps": "`num_steps` is how many steps there are",
}
#: Arguments of `StableDiffusion`.
CONSTRUCTOR = {
    **dict.fromkeys(("height", "image_height"), "img_height"),
    **dict.fromkeys(("width", "image_width"), "img_width"),
    **dict.fromkeys(
        ("torch_dtype", "dtype", "variant", "mixed_precision"), "precision"
    ),
    **dict.fromkeys(("jit", "compile", "xla"), "jit_compile"),
    **dict.fromkeys(("autoencoder", "vae_path"), "vae"),
    **dict.fromkeys(("clip", "text_model"), "text_encoder"),
    **dict.fromkeys(("diffusion_model", "transformer"), "unet"),
    **dict.fromkeys(
        ("lowvram", "medvram", "low_cpu_mem_usage", "offload"), "low_memory"
    ),
    **dict.fromkeys(("model", "model_path", "checkpoint", "preset"), "weights"),
    "vae_tiling": "tiling",
    "parameterization": "prediction_type",
}
#: Flags of the command line, without their dashes.
FLAGS = {
    **dict.fromkeys(
        (
            *("cfg-scale", "cfg", "scale", "unconditional-guidance-scale", "guidance"),
            *("C", "cfg_scale"),
        ),
        "--guidance-scale",
    ),
    **dict.fromkeys(
        (
            *("n", "b", "n-samples", "n-iter", "num-images", "num-images-per-prompt"),
            *("batch-count", "batch", "count", "num", "iterations"),
        ),
        "--batch-size",
    ),
    **dict.fromkeys(
        ("width", "height", "W", "H", "w", "h", "resolution", "img-width"),
        "--size (as 512 or 768x512, width first)",
    ),
    **dict.fromkeys(("img-height", "dimensions"), "--size (as 512 or 768x512)"),
    **dict.fromkeys(("model", "m", "ckpt", "checkpoint", "weights"), "--preset"),
    **dict.fromkeys(("outdir", "o", "out", "output-dir", "save"), "--output"),
    **dict.fromkeys(
        ("ddim-steps", "num-steps", "num-inference-steps", "s", "sample-steps"),
        "--steps",
    ),
    **dict.fromkeys(
        ("sampling-method", "scheduler", "sampler-name", "A"),
        "--sampler",
    ),
    **dict.fromkeys(("schedule", "schedule-type"), "--spacing"),
    **dict.fromkeys(
        ("init-img", "i", "init-image", "input", "I", "img"),
        "--image",
    ),
    **dict.fromkeys(("mask-image", "init-mask"), "--mask"),
    **dict.fromkeys(("denoising-strength", "denoise", "f"), "--strength"),
    **dict.fromkeys(("negative", "neg", "negative-prompts"), "--negative-prompt"),
    **dict.fromkeys(("S", "rng-seed"), "--seed"),
    **dict.fromkeys(("control-image", "control-net", "controlnet"), "--control"),
    **dict.fromkeys(("subseed", "v"), "--variation-seed"),
    **dict.fromkeys(("subseed-strength",), "--variation-strength"),
    **dict.fromkeys(("lowvram", "medvram", "vae-on-cpu"), "--low-memory"),
    **dict.fromkeys(("dtype", "fp16", "half", "type"), "--precision"),
    **dict.fromkeys(("prompt", "p", "text"), "the prompt itself, in quotes"),
    **dict.fromkeys(("vae-path",), "--vae"),
    **dict.fromkeys(("device",), "--backend"),
}


def keyword(name: str, known) -> str:
    """A sentence that leads from another program's keyword to ours, or nothing.

    Args:
        name: What was given.
        known: The keywords that would do.
    """
    own = KEYWORDS.get(name)
    if own in known:
        return f"it is `{own}` here"
    if name in ELSEWHERE:
        return ELSEWHERE[name]
    return ""


def argument(name: str, known) -> str:
    """The same of an argument of `StableDiffusion`."""
    own = CONSTRUCTOR.get(name)
    if own in known:
        return f"it is `{own}` here"
    if name in KEYWORDS.values() or name in KEYWORDS:
        own = KEYWORDS.get(name, name)
        return f"tasks take it, as `{own}`: text_to_image(..., {own}=...)"
    return ""


def flag(given: str) -> str:
    """A sentence that leads from another program's flag to ours, or nothing."""
    name = given.partition("=")[0].lstrip("-")
    own = FLAGS.get(name) or FLAGS.get(name.replace("_", "-"))
    return f"{given.partition('=')[0]} is {own} here" if own else ""

"""One part in a file, of its own or among others, known by names and shapes."""

from __future__ import annotations

from kerasdiffusion.presets.named import PRESETS
from kerasdiffusion.weights import detect, names
from kerasdiffusion.weights.base import TensorFile, WeightsError
from kerasdiffusion.weights.layout import FIELDS
from kerasdiffusion.weights.modules import EMBEDDER, PREFIXES


def detect_part(field: str, file: TensorFile, like=None):
    """The configuration of a part that a file holds.

    Args:
        field: The field of `ModelConfig` that describes it.
        file: An open `TensorFile`.
        like: The configuration that the family has; what shapes do not show is as in
            it.

    Returns:
        A configuration for that field.

    Raises:
        WeightsError: If the file holds no such part, or shapes do not tell which.
    """
    if like is not None and _fits(field, like, file):
        return like
    found = _ORIGINAL[field](file, like)
    if found is not None:
        return found
    for preset in PRESETS.values():
        known = preset.config and getattr(preset.config, field)
        if known is not None and _fits(field, known, file):
            return known
    raise WeightsError(
        f"The file must hold the {field} in a known layout; a folder with its "
        f"config.json can have any. Received: {file.path}"
    )


def _fits(field: str, config, file: TensorFile) -> bool:
    """Whether a file holds every tensor of a part, in its shape."""
    for part, described in FIELDS.items():
        if described != field:
            continue
        for tensor in names.tensors(part, config):
            shapes = (tensor.shape, tensor.original_shape)
            if not any(
                name in file and file.shape(name) in shapes
                for name in names.spellings(part, tensor)
            ):
                return False
    return True


def _autoencoder(file: TensorFile, like):
    for root in (PREFIXES["decoder"], ""):
        if f"{root}decoder.up.0.block.0.conv1.weight" in file:
            return detect.autoencoder(file, like, root)
    return None


def _diffusion_model(file: TensorFile, like):
    for root in (PREFIXES["diffusion_model"], ""):
        if f"{root}input_blocks.0.0.weight" in file:
            return detect.diffusion_model(file, root)
    return None


def _text_encoder(file: TensorFile, like, own=PREFIXES["text_encoder"]):
    is_xl = like is not None and like.skipped_layers > 0
    places = [
        root + inner
        for root in (own, EMBEDDER, "")
        for inner in ("model.", "transformer.text_model.", "transformer.", "")
    ]
    for root in (*places, "text_model."):
        if f"{root}token_embedding.weight" in file:
            return detect.open_clip(file, root, is_xl)
        if f"{root}embeddings.token_embedding.weight" in file:
            return detect.clip(file, root, is_xl)
    return None


def _text_encoder_2(file: TensorFile, like):
    return _text_encoder(file, like, PREFIXES["text_encoder_2"])


_ORIGINAL = {
    "autoencoder": _autoencoder,
    "diffusion_model": _diffusion_model,
    "text_encoder": _text_encoder,
    "text_encoder_2": _text_encoder_2,
}

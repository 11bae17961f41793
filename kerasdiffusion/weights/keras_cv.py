"""KerasCV's `.h5` files, one for each part.

Two layouts: the `.weights.h5` of Keras 3 (`layers/res_block_3/...`), and Keras 2's
(groups by layer name, in the order of an attribute), in which the files that KerasCV
downloads are published. Neither has our names, but in both the weights come in the
order of their use, which is the order of `names.MODULES`.

Reference:
    keras-cv 0.9.0 `models/stable_diffusion/*.py`; keras `saving/legacy/
    legacy_h5_format.py` for the attributes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from kerasdiffusion.presets.config import (
    AutoencoderConfig,
    DiffusionModelConfig,
    ModelConfig,
    TextEncoderConfig,
    TokenizerConfig,
)
from kerasdiffusion.weights.base import WeightsError
from kerasdiffusion.weights.files import open_tensors
from kerasdiffusion.weights.formats import HDF5File
from kerasdiffusion.weights.layout import KERAS_CV
from kerasdiffusion.weights.names import MODULES

# Attributes that hold weights, of each class of layer, in the order of their use.
ATTENTION = "to_q to_k to_v out_proj".split()
ATTRIBUTES = {
    "dense": [""],
    "group_normalization": [""],
    "layer_normalization": [""],
    "padded_conv2d": ["conv2d"],
    "upsample": ["conv/conv2d"],
    "clip_embedding": ["token_embedding", "position_embedding"],
    "clip_encoder_layer": [
        "layer_norm1",
        *(f"clip_attn/{name}_proj" for name in ("q", "k", "v", "out")),
        "layer_norm2",
        "fc1",
        "fc2",
    ],
    "res_block": [
        "entry_flow/group_normalization",
        "entry_flow/padded_conv2d/conv2d",
        "embedding_flow/dense",
        "exit_flow/group_normalization",
        "exit_flow/padded_conv2d/conv2d",
        "residual_projection/conv2d",
    ],
    "spatial_transformer": [
        "norm",
        "proj1/conv2d",
        "transformer_block/norm1",
        *(f"transformer_block/attn1/{name}" for name in ATTENTION),
        "transformer_block/norm2",
        *(f"transformer_block/attn2/{name}" for name in ATTENTION),
        "transformer_block/norm3",
        "transformer_block/geglu/dense",
        "transformer_block/dense",
        "proj2/conv2d",
    ],
    "resnet_block": [
        "norm1",
        "conv1/conv2d",
        "norm2",
        "conv2/conv2d",
        "residual_projection/conv2d",
    ],
    "attention_block": [
        "norm",
        *(f"{name}/conv2d" for name in ("q", "k", "v", "proj_out")),
    ],
}

# Modules that are one layer in KerasCV.
LAYER = re.compile(
    r"text_model\.embeddings|.*encoder\.layers\.\d+|.*(resnets|attentions)\.\d+"
)


def layers(file: HDF5File) -> list[list[str]]:
    """The names of each layer's arrays, both in the order of their use.

    In the layout of Keras 3 the order holds among the layers of one class.
    """
    groups = _keras_2_layers(file) or _keras_3_layers(file)
    if not groups:
        raise WeightsError(
            f"The HDF5 file has neither of the layouts that KerasCV writes. "
            f"Received: {file.path}"
        )
    return groups


def _keras_3_layers(file: HDF5File) -> list[list[str]]:
    found = defaultdict(set)
    for key in file.keys():
        match = re.match(r"((?:_?layers?\w*)[/\\]([a-z0-9_]+?)(?:_(\d+))?)[/\\]", key)
        if match and match[2] in ATTRIBUTES:
            found[match[2]].add((int(match[3] or 0), match[1]))
    return [
        [
            key
            for attribute in ATTRIBUTES[kind]
            for i in range(2)
            if (key := "/".join(filter(None, (root, attribute, "vars", str(i)))))
            in file
        ]
        for kind, roots in found.items()
        for _, root in sorted(roots)
    ]


def _keras_2_layers(file: HDF5File) -> list[list[str]]:
    root = file.file.get("model_weights", file.file)
    groups = []
    for layer in _attribute(root, "layer_names"):
        prefix = f"{root.name.strip('/')}/{layer}".strip("/")
        if prefix in file.file:
            keys = _attribute(file.file[prefix], "weight_names")
            # Only arrays of this file: a name here could be a link to anywhere.
            keys = [key for name in keys if (key := f"{prefix}/{name}") in file]
            if keys:
                groups.append(keys)
    return groups


def _attribute(group, name: str) -> list[str]:
    """A list of names, which Keras 2 splits where it is longer than 64 kB."""
    if name in group.attrs:
        values = list(group.attrs[name])
    else:
        values, i = [], 0
        while f"{name}{i}" in group.attrs:
            values += list(group.attrs[f"{name}{i}"])
            i += 1
    return [
        value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for value in values
    ]


def table(part: str, config, file: HDF5File) -> dict[str, str]:
    """The key of each canonical name, as far as the layers fit.

    Layers are paired by the shapes of their weights, in order among those of the same
    shapes: the two layouts, and Keras's versions, order branches differently.

    Args:
        part: `"text_encoder"`, `"diffusion_model"`, `"image_encoder"` or `"decoder"`.
        config: The part's configuration.
        file: An open `.h5` file.

    Returns:
        A dict from canonical names to keys of the file.
    """
    offered = defaultdict(list)
    for keys in reversed(layers(file)):
        offered[tuple(map(file.shape, keys))].append(keys)
    wanted = defaultdict(list)
    for module in MODULES[part](config):
        match = LAYER.match(module.name)
        wanted[match[0] if match else module.name].append(module)
    names = {}
    for modules in wanted.values():
        signature = tuple(
            _keras_shape(module.original_shapes[leaf], module.name)
            for module in modules
            for leaf in module.shapes
        )
        if offered[signature]:
            leaves = [f"{m.name}.{leaf}" for m in modules for leaf in m.shapes]
            names |= zip(leaves, offered[signature].pop(), strict=True)
    return names


def _keras_shape(shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """The shape that Keras gives a tensor of this PyTorch shape."""
    if len(shape) == 4:
        return shape[2], shape[3], shape[1], shape[0]
    return shape if name.endswith("_embedding") else shape[::-1]


def find(folder: Path) -> dict[str, Path]:
    """KerasCV's files in a folder, by part: the published names or the parts'."""
    found = {}
    for part, name in KERAS_CV.items():
        for candidate in (name, f"{part}.weights.h5", f"{part}.h5"):
            if (folder / candidate).is_file():
                found.setdefault(part, folder / candidate)
    return found


def detect(files: Mapping[str, Path]) -> ModelConfig:
    """The configuration of KerasCV's files: SD 1's levels, with the files' widths.

    Args:
        files: A path for each part that there is.

    Returns:
        A `ModelConfig`; parts without a file have SD 1's values.
    """
    config = ModelConfig()
    for part, path in files.items():
        if part == "image_encoder" and "decoder" in files:
            continue
        with open_tensors(path) as file:
            if not isinstance(file, HDF5File):
                raise WeightsError(f"A KerasCV file is HDF5. Received: {path}")
            shapes = [[file.shape(key) for key in keys] for keys in layers(file)]
        try:
            config = config.replace(**_DETECTORS[part](shapes))
        except (IndexError, ValueError, StopIteration) as error:
            raise WeightsError(
                f"The file does not have the layers of KerasCV's {part}. "
                f"Received: {path}"
            ) from error
    return config


def _detect_text_encoder(shapes) -> dict:
    tokens, positions = next(s for s in shapes if len(s) == 2 and len(s[1]) == 2)
    blocks = [layer for layer in shapes if len(layer) == 16]
    config = TextEncoderConfig(
        vocabulary_size=tokens[0],
        context_length=positions[0],
        width=tokens[1],
        depth=len(blocks),
        mlp_width=blocks[0][12][1],
    )
    tokenizer = TokenizerConfig(context_length=positions[0])
    return {"text_encoder": config, "tokenizer": tokenizer}


def _detect_diffusion_model(shapes) -> dict:
    residual = [layer for layer in shapes if len(layer) in (10, 12)]
    transformer = next(layer for layer in shapes if len(layer) == 26)
    config = DiffusionModelConfig(
        block_widths=tuple(residual[i][2][3] for i in (0, 2, 4, 6)),
        context_width=transformer[14][0],
    )
    return {"diffusion_model": config}


def _detect_decoder(shapes) -> dict:
    return _autoencoder(shapes, (11, 8, 5, 2))


def _detect_image_encoder(shapes) -> dict:
    return _autoencoder(shapes, (0, 2, 4, 6))


def _autoencoder(shapes, firsts: tuple[int, ...]) -> dict:
    """Widths from the residual blocks that begin the levels."""
    residual = [
        layer
        for layer in shapes
        if len(layer) in (8, 10) and len(layer[2]) == 4 and layer[2][:2] == (3, 3)
    ]
    widths = tuple(residual[i][2][3] for i in firsts)
    return {"autoencoder": AutoencoderConfig(block_widths=widths)}


_DETECTORS = {
    "text_encoder": _detect_text_encoder,
    "diffusion_model": _detect_diffusion_model,
    "decoder": _detect_decoder,
    "image_encoder": _detect_image_encoder,
}

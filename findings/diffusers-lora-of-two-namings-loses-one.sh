#!/usr/bin/env bash
# diffusers 0.42.1: a LoRA file that names modules in two ways loses those of one, in silence.
#
# kohya's files for Stable Diffusion XL say blocks as the original checkpoint does (input_blocks_4_1),
# others as diffusers does (down_blocks_1_attentions_0). Where a file has keys of both kinds, which is
# what merging two LoRAs of different trainers leaves, diffusers takes the first kind for repetitions of
# the second and removes them, also those whose module no other key names: half of the LoRA does
# nothing, no error, no warning, and nothing is left to be reported as unexpected. Each half alone is
# read whole.
#
# Seen: 2 tensors of either file alone; of both in one file 2, those in diffusers' names.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q diffusers==0.42.1 torch==2.13.0 transformers==5.24.0 peft==0.21.2 numpy
"$folder/env/bin/python" - <<'PYTHON'
import types

import diffusers
import torch
from diffusers import StableDiffusionXLPipeline

config = types.SimpleNamespace(layers_per_block=2)  # as Stable Diffusion XL's
ATTENTION = "transformer_blocks_0_attn1_to_q"


def tensors(block):
    module = f"lora_unet_{block}_{ATTENTION}"
    return {
        f"{module}.lora_down.weight": torch.ones(4, 640),
        f"{module}.lora_up.weight": torch.ones(640, 4),
        f"{module}.alpha": torch.tensor(4.0),
    }


def read(file):
    found, _ = StableDiffusionXLPipeline.lora_state_dict(dict(file), unet_config=config)
    return sorted(found)


# Two blocks that are not the same: the first of level 1, and the last of level 2.
one, other = tensors("input_blocks_4_1"), tensors("down_blocks_2_attentions_1")
alone, both = read(one) + read(other), read({**one, **other})
print(f"diffusers {diffusers.__version__}: alone {len(alone)} tensors, together {len(both)}")
print("lost:", *sorted(set(alone) - set(both)))
assert len(set(alone)) == 4 and len(both) == 2, "this has changed"
PYTHON

#!/usr/bin/env bash
# PEFT 0.21.2: a fresh OFT of a 3x3 convolution gives noise; merged, it is the plain layer.
#
# OFT begins as the identity: before it is taught it changes nothing. That holds for dense layers and
# 1x1 convolutions. With larger kernels the layer cuts its input into patches, rotates them and puts
# them together again: in another order than they were cut (a view of an array whose axes were
# permuted), and added up where they overlap. Merging rotates the kernel in place of the patches and
# is right, so that what was taught unmerged is another model after merge_and_unload().
#
# Seen: correlation with the plain output 1.00 for a 1x1 kernel, 0.03 for a 3x3 one; merged both
# are the plain layers to the bit.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q peft==0.21.2 torch==2.13.0 transformers==5.24.0 numpy
"$folder/env/bin/python" - <<'PYTHON'
import copy

import peft
import torch


def correlation(size):
    """Of a fresh adapter's output with the plain one; and of its merge."""
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(4, 8, size, padding=size // 2, bias=False)
    plain, x = torch.nn.Sequential(conv), torch.randn(1, 4, 12, 12)
    config = peft.OFTConfig(oft_block_size=4, r=0, target_modules=["0"])
    with torch.no_grad():
        model = peft.get_peft_model(copy.deepcopy(plain), config)
        outputs = plain(x), model(x), model.merge_and_unload()(x)
    return torch.corrcoef(torch.stack([each.flatten() for each in outputs]))[0, 1:]


dense, wide = correlation(1), correlation(3)
print(f"PEFT {peft.__version__}, fresh and merged: 1x1 {dense}, 3x3 {wide}")
assert dense.min() > 0.999 and wide[1] > 0.999 and wide[0] < 0.5, "this has changed"
PYTHON

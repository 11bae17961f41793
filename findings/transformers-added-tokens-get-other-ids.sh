#!/usr/bin/env bash
# transformers 5.24.0: an added token whose id leaves a gap is given another id, without a word.
#
# A folder says, in added_tokens.json and in tokenizer_config.json, that "<dog>" is token 10 of a
# CLIP tokenizer whose vocabulary ends at 5. CLIPTokenizer.from_pretrained reads it as token 6: the
# next that is free. The text encoder's vector for it is still in row 10 of the embedding, so the
# word now means whatever row 6 holds. (Tables that are padded to a round size have such gaps.)
#
# Seen: "a <dog> b" is [0, 2, 6, 3, 1], not [0, 2, 10, 3, 1].
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q transformers==5.24.0 tokenizers==0.23.3
"$folder/env/bin/python" - "$folder" <<'PYTHON'
import json
import sys
from pathlib import Path

import transformers

folder = Path(sys.argv[1])
words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "b</w>", "a", "b"]
token = {"content": "<dog>", "special": False, "normalized": False}
token |= {"lstrip": False, "rstrip": False, "single_word": False}
files = {
    "vocab.json": {word: number for number, word in enumerate(words)},
    "added_tokens.json": {"<dog>": 10},
    "tokenizer_config.json": {
        "tokenizer_class": "CLIPTokenizer",
        "added_tokens_decoder": {"10": token},
    },
}
for name, content in files.items():
    (folder / name).write_text(json.dumps(content))
(folder / "merges.txt").write_text("#version: 0.2\n")
tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
ids = tokenizer("a <dog> b").input_ids
print(f"transformers {transformers.__version__}: {ids}")
assert ids == [0, 2, 6, 3, 1], "this has changed"
PYTHON

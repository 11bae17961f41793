"""Tokenizer folders: vocabularies, merges and configurations."""

import json
import os

from kerasdiffusion.prompts.tokenizer import Tokenizer
from tests.hostile.harness import Collection
from tests.tiny import tiny_tokenizer

CASES = Collection()


@CASES.reader("tokenizers")
def read(folder):
    tokenizer = Tokenizer.from_folder(folder)
    return tokenizer(["a red apple", "\0<|endoftext|>"]).shape


def add(name, outcome="refused", **files):
    """A folder of the tiny tokenizer, of which files are others."""

    def make(folder):
        tiny_tokenizer().save(folder)
        for file, content in files.items():
            path = folder / file.replace("_json", ".json").replace("_txt", ".txt")
            if content is None:
                path.unlink(missing_ok=True)
                continue
            if callable(content):
                content = content(path)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                path.write_text(
                    content if isinstance(content, str) else json.dumps(content)
                )
        return folder

    CASES.add("tokenizers", name, make, outcome)


def vocabulary(change):
    def changed(path):
        found = json.loads(path.read_text())
        change(found)
        return found

    return changed


add("a good one", "taken")
for name, change in {
    "an id twice": lambda found: found.update(x=0),
    "an id below 0": lambda found: found.update(x=-1),
    "an id of text": lambda found: found.update(x="7"),
    "an id that is a half": lambda found: found.update(x=0.5),
    "an id of 2**40": lambda found: found.update(x=2**40),
    "an id of 300 digits": lambda found: found.update(x=10**299),
    "no end": lambda found: found.pop("<|endoftext|>"),
    "no start": lambda found: found.pop("<|startoftext|>"),
    "a list for an id": lambda found: found.update(x=[]),
}.items():
    add(name, vocab_json=vocabulary(change))
add("a vocabulary that is a list", vocab_json=[1])
add("no vocabulary", vocab_json={})
add("a vocabulary nested", vocab_json='{"a":' * 10**4 + "1" + "}" * 10**4)
add("a vocabulary of no UTF-8", vocab_json=b'{"\xff": 1}')
add("a vocabulary cut short", vocab_json='{"a": 1')
add("a vocabulary of 70 MB", vocab_json=lambda _: b"{" + b" " * 70 * 2**20 + b"}")
add("an id of 5,000 digits", vocab_json='{"a": ' + "9" * 5000 + "}")
add(
    "a token of a megabyte",
    "taken",
    vocab_json=vocabulary(lambda found: found.update({"x" * 10**6: 600})),
)
add("merges of no UTF-8", merges_txt=b"#version\n\xff\xfe a\n")
add("a merge of three", merges_txt="#version: 0.2\na b c\n")
add("a merge of one", merges_txt="#version: 0.2\na\n")
add("a merge of what is not", merges_txt="#version: 0.2\nzz yy\n")
add("a merge of megabytes", merges_txt="#version: 0.2\n" + "a" * 10**6 + " b\n")
add("a million merges", merges_txt="#version: 0.2\n" + "a b\n" * 10**6)
add("no merges", "taken", merges_txt="")
add("a tokenizer.json of a list", vocab_json=None, merges_txt=None, tokenizer_json=[1])
for name, model in {
    "nothing": {},
    "another kind": {"type": "Unigram", "vocab": [["a", 0.5]]},
    "merges of numbers": {"type": "BPE", "vocab": {"a": 0}, "merges": [1, 2]},
    "merges of lists": {"type": "BPE", "vocab": {"a": 0}, "merges": [[[]] * 2]},
    "a vocabulary of text": {"type": "BPE", "vocab": "abc", "merges": []},
    "a map of a map": {"type": "BPE", "vocab": {"a": {"a": 0}}, "merges": []},
}.items():
    add(
        f"a tokenizer.json of {name}",
        vocab_json=None,
        merges_txt=None,
        tokenizer_json={"model": model},
    )
add(
    "a tokenizer.json nested",
    vocab_json=None,
    merges_txt=None,
    tokenizer_json="[" * 10**5,
)
for value in (10**9, 10**30, -1, 0, 1, "77", [77], 1.5, True):
    # (transformers writes 10**30 for no limit.)
    outcome = "taken" if value in (10**9, 10**30) else "refused"
    add(
        f"model_max_length {str(value)[:9]} x{len(str(value))}",
        outcome,
        tokenizer_config_json={"model_max_length": value},
    )
for value in (
    7,
    ["x"],
    {"content": []},
    {"content": {"content": "x"}},
    "no such token",
    "x" * 10**6,
):
    name, made = f"pad_token {str(value)[:20]}", {"pad_token": value}
    add(name, "taken", tokenizer_config_json=made)  # the map of special tokens is right
add("a config that is a list", tokenizer_config_json=[1])
add("a config nested", tokenizer_config_json="[" * 10**5)
add(
    "a config of a class",
    "taken",
    tokenizer_config_json={
        "tokenizer_class": "os.system",
        "auto_map": {"AutoTokenizer": "evil.Evil"},
    },
)
for file in ("vocab.json", "merges.txt", "tokenizer_config.json"):
    how = "taken" if file == "tokenizer_config.json" else "refused"

    @CASES.case("tokenizers", f"{file} is a device", how)
    def _(folder, file=file):
        tiny_tokenizer().save(folder)
        (folder / file).unlink(missing_ok=True)
        (folder / file).symlink_to("/dev/zero")
        return folder

    @CASES.case("tokenizers", f"{file} is a pipe", how)
    def _(folder, file=file):
        tiny_tokenizer().save(folder)
        (folder / file).unlink(missing_ok=True)
        os.mkfifo(folder / file)
        return folder

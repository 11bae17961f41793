"""What others wrote in text: parameters, graphs, prompts and requests."""

import json

from kerasdiffusion import Request
from kerasdiffusion.apps.reproduce import keywords, prompts, sampling_options
from kerasdiffusion.pictures.comfy_parameters import parse_graph
from kerasdiffusion.pictures.generation_parameters import (
    parse_parameters,
)
from kerasdiffusion.prompts.chunks import chunks
from kerasdiffusion.prompts.schedule import schedule
from kerasdiffusion.prompts.syntax import compose, parse
from kerasdiffusion.prompts.tags import split_tags
from kerasdiffusion.requests.batches import batch_in, walk_in
from kerasdiffusion.requests.text import fields_in, is_ours
from kerasdiffusion.storage.reading import parse_json
from tests.hostile.harness import Collection
from tests.tiny import TINY, tiny_tokenizer

CASES = Collection()


#: What `generate --from` takes as it is, by the field.
FOLLOWED = {
    "guidance_scale": "unconditional_guidance_scale",
    "seed": "seed",
    "strength": "strength",
}


def follow(found: dict) -> dict:
    """What is asked of a model as a picture's parameters say, ahead of painting."""
    if is_ours(found):
        fields = fields_in(found)
        batch_in(found)
        walk_in(found)
    else:
        fields = sampling_options(found, TINY.schedule) | keywords(found)[0]
    prompt, negative, _ = prompts(found)
    for word, field in FOLLOWED.items():
        if word in found:
            fields[field] = found[word]
    task, image = "text_to_image", {}
    if "strength" in found:
        task, image = "image_to_image", {"image": "a.png"}
    words = {"prompt": prompt, "negative_prompt": negative}
    Request(task=task, **{**words, **fields, **image})
    return found


@CASES.reader("A1111 texts")
def parameters(text):
    return follow(parse_parameters(text))


@CASES.reader("ComfyUI graphs")
def graph(text):
    try:
        found = parse_graph(text)
    except ValueError as error:  # as `read_parameters` says of which picture
        raise ValueError(f"{error} Received: a picture") from error
    return follow(found)


@CASES.reader("prompts")
def prompt(text):
    bare, _ = split_tags(text)
    for part in compose(bare):
        for stage in schedule(part.text, 20):
            spans = parse(stage.text)
            chunks(spans, tiny_tokenizer())
    return bare


@CASES.reader("JSON")
def value(text):
    return parse_json(text, "a text")


def a1111(name, line, outcome="refused", prompt="a cat", **more):
    CASES.add("A1111 texts", name, f"{prompt}\n{line}", outcome, **more)


#: Those that heed what is said, and values that are right or, as -1 for a seed, a word.
SAMPLERS = {"Eta": "Euler a", "Sigma churn": "Euler"}
RIGHT = {("Seed", "-1"), ("CFG scale", "-1"), ("Eta", "-1"), ("Sigma churn", "-1")}
a1111("a good one", "Steps: 20, Sampler: Euler a, Seed: 1, Size: 64x64", "taken")
for name in (
    "Steps",
    "Seed",
    "CFG scale",
    "Eta",
    "Sigma churn",
    "Variation seed strength",
    "Clip skip",
    "Denoising strength",
):
    for said in (
        "x",
        "nan",
        "1e999",
        "-1",
        "9" * 400,
        "9" * 5000,
        "",
        "1,2",
        "0x10",
        "[1]",
        "true",
    ):
        sampler = SAMPLERS.get(name, "DPM++ 2M")
        line = f"Steps: 20, Sampler: {sampler}, {name}: {said}, Size: 64x64, Model: x"
        line = line.replace("Steps: 20, ", "", name == "Steps")
        # (Behind a comma begins something else.)
        outcome = "taken" if said == "1,2" or (name, said) in RIGHT else "refused"
        a1111(f"{name} {said[:6]!r} x{len(said)}", line, outcome)
a1111("10**9 steps with a cut sampler", "Steps: 1000000000, Sampler: DPM2, Seed: 1")
a1111(
    "10**30 steps", f"Steps: {10**30}, Sampler: DPM2 a, Schedule type: Karras, Seed: 1"
)
a1111("no steps at all", "Steps: 0, Sampler: DPM2, Seed: 1")
a1111("a sampler that is not", "Steps: 20, Sampler: os.system, Seed: 1")
a1111("a sampler of a megabyte", f"Steps: 20, Sampler: {'x' * 10**6}, Seed: 1")
a1111("a schedule that is not", "Steps: 20, Sampler: Euler, Schedule type: x, Seed: 1")
for digits in (400, 5000):
    line = f"Steps: 20, Sampler: Euler, Size: {'9' * digits}x8"
    a1111(f"a size of {digits} digits", line, "taken")
a1111(
    "a line of ten megabytes",
    "Steps: 20, " + "a: 1, " * 10**6 + "Sampler: Euler",
    "taken",
)
a1111("a key of a megabyte", "a" * 10**6 + ": 1, Sampler: Euler, Steps: 1", "taken")
a1111("quotes without end", 'Steps: 20, Sampler: Euler, x: "' + "\\" * 10**6, "taken")
a1111("quotes many times", "Steps: 20, Sampler: Euler, " + 'x: "' * 10**5, "taken")
a1111("a value nested", 'Steps: 20, Sampler: Euler, x: "' + "[" * 10**5 + '"', "taken")
a1111("commas alone", "Steps: 20, Sampler: Euler, Seed: 1" + "," * 10**6, "taken")
a1111("spaces alone", "Steps: 20, Sampler: Euler, Seed: 1," + " " * 10**6, "taken")
a1111("braces alone", "Steps: 20, Sampler: Euler, x: " + "{" * 10**6, "taken")
CASES.add("A1111 texts", "a million lines", "\n" * 10**6, "taken")
CASES.add("A1111 texts", "nothing", "", "taken")
CASES.add("A1111 texts", "NULs", "\0\nSteps: 20, Sampler: \0, Seed: 1")


def comfy(name, nodes, outcome="refused", **more):
    text = nodes if isinstance(nodes, str) else json.dumps(nodes)
    CASES.add("ComfyUI graphs", name, text, outcome, **more)


SAMPLER = {
    "class_type": "KSampler",
    "inputs": {
        "seed": 1,
        "steps": 20,
        "cfg": 7.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1.0,
        "positive": ["2", 0],
        "negative": ["3", 0],
        "model": ["4", 0],
        "latent_image": ["5", 0],
    },
}
NODES = {
    "1": SAMPLER,
    "2": {
        "class_type": "CLIPTextEncode",
        "inputs": {"text": "a cat", "clip": ["4", 1]},
    },
    "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["4", 1]}},
    "4": {
        "class_type": "CheckpointLoaderSimple",
        "inputs": {"ckpt_name": "x.safetensors"},
    },
    "5": {
        "class_type": "EmptyLatentImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1},
    },
}


def with_inputs(**values):
    inputs = {**SAMPLER["inputs"], **values}
    return {**NODES, "1": {**SAMPLER, "inputs": inputs}}


comfy("a good one", NODES, "taken")
# (Latents beyond float32 are said as they are painted.)
TAKEN = [("seed", -1), ("cfg", -1), ("cfg", 1e308), ("cfg", 10**30), ("denoise", True)]
for name, text in {
    "nothing": "",
    "no JSON": "{",
    "a list": "[]",
    "a number": "7",
    "null": "null",
    "nested": "[" * 10**5,
    "nested objects": '{"a":' * 10**4 + "1" + "}" * 10**4,
    "no nodes": "{}",
    "a node of text": '{"1": "x"}',
    "a node without inputs": '{"1": {"class_type": "KSampler"}}',
    "inputs that are a list": '{"1": {"class_type": "KSampler", "inputs": [1]}}',
    "a class that is a list": '{"1": {"class_type": [], "inputs": {}}}',
    "20 MB": '{"1": "' + "x" * 20 * 2**20 + '"}',
}.items():
    comfy(name, text)
for name in ("seed", "steps", "cfg", "denoise", "sampler_name", "scheduler"):
    for said in (
        None,
        [],
        {},
        "x",
        -1,
        1e308,
        10**30,
        ["9", 0],
        ["1", 0],
        "9" * 400,
        True,
    ):
        # What no node or nothing says is as if it were not there.
        is_nothing = said in (None, [], {}) or isinstance(said, list)
        outcome = "taken" if is_nothing or (name, said) in TAKEN else "refused"
        comfy(f"{name} {str(said)[:9]}", with_inputs(**{name: said}), outcome)
comfy("10**9 steps with a cut sampler", with_inputs(steps=10**9, sampler_name="dpm_2"))
comfy("a loop of one", with_inputs(positive=["1", 0]), "taken")
comfy(
    "a loop of two",
    {
        **NODES,
        "2": {"class_type": "x", "inputs": {"conditioning": ["3", 0]}},
        "3": {"class_type": "x", "inputs": {"conditioning": ["2", 0]}},
    },
    "taken",
)
itself = {
    "class_type": "ConditioningCombine",
    "inputs": {f"c{i}": ["2", 0] for i in range(50)},
}
comfy("a node that links to itself 50 times", {**NODES, "2": itself}, "taken")
layers = {
    str(n + 10): {
        "class_type": "x",
        "inputs": {f"c{i}": [str(n + 11), 0] for i in range(20)},
    }
    for n in range(60)
}
comfy(
    "20**60 ways",
    {**NODES, **layers, "1": with_inputs(positive=["10", 0])["1"]},
    "taken",
)
chain = {
    str(n + 10): {"class_type": "x", "inputs": {"conditioning": [str(n + 11), 0]}}
    for n in range(50_000)
}
comfy(
    "a chain of 50,000",
    {**NODES, **chain, "1": with_inputs(positive=["10", 0])["1"]},
)
comfy(
    "10,000 samplers",
    {str(n): SAMPLER for n in range(10**4)} | {"2": NODES["2"]},
    "taken",
)
comfy("a link to what is not", with_inputs(positive=["no such", 0]), "taken")
comfy("a link of a list", with_inputs(positive=[["2"], 0]), "taken")
comfy(
    "a text of a list",
    {**NODES, "2": {"class_type": "CLIPTextEncode", "inputs": {"text": ["x"]}}},
    "taken",
)


def words(name, text, outcome="taken", **more):
    CASES.add("prompts", name, text, outcome, **more)


#: What is over a limit; all else is text, or too little to be looked at twice.
TOO_MUCH = (
    *("100,000 open brackets", "100,000 closed brackets", "100,000 pairs"),
    *("100,000 square ones", "square ones with a colon", "AND a thousand times"),
    *("spaces beside AND", "spaces beside BREAK", "a megabyte"),
    *("one word of a megabyte", "a weight of 400 digits", "a weight of 5,000 digits"),
    *("weights that multiply", "a share of 400 digits", "entities of entities"),
    *("mixed brackets", "marks on marks"),
)
words("a good one", "a (red:1.2) [apple|pear:0.5] AND a cat :0.5 BREAK x")
for name, text in {
    "100,000 open brackets": "(" * 10**5,
    "100,000 closed brackets": ")" * 10**5,
    "100,000 pairs": "(" * 10**5 + "a" + ")" * 10**5,
    "100,000 square ones": "[" * 10**5,
    "square ones with a colon": "[a:" * 10**4 + "b" + ":0.5]" * 10**4,
    "10,000 ways": "[" + "|".join("ab" * 5000) + "]",
    "AND a thousand times": "a AND " * 1000 + "b",
    "BREAK a thousand times": "a BREAK " * 1000 + "b",
    "spaces beside AND": "a" + " " * 10**5 + "AND" + " " * 10**5 + "b",
    "spaces beside BREAK": "a" + " " * 10**5 + "BREAK" + " " * 10**5 + "b",
    "a megabyte": "a " * 2**19,
    "one word of a megabyte": "a" * 2**20,
    "60,000 colons": ":" * 60_000,
    "60,000 backslashes": "\\" * 60_000,
    "a weight of 400 digits": f"(a:{'9' * 400})",
    "a weight of 5,000 digits": f"(a:{'9' * 5000})",
    "a weight that is no number": "(a:nan)",
    "infinity": "(a:inf)",
    "1e999": "(a:1e999)",
    "weights that multiply": "(" * 150 + "a" + ":1000000)" * 150,
    "a share of 400 digits": f"a AND b :{'9' * 400}",
    "a share of NaN": "a AND b :nan",
    "a step of 400 digits": f"[a:b:{'9' * 400}]",
    "NULs": "\0" * 1000,
    "half of a pair": "\ud800" * 1000,
    "marks on marks": "a" + "\u0301" * 50_000,
    "right to left": "\u202e" * 10_000,
    "lines that look like a log": "a\nINFO: b\r\n\x1b[2J",
    "10,000 tags": "<lora:a:1>" * 6000,
    "a tag without end": "<lora:" * 10_000,
    "a tag that is a path": "<lora:../../etc/passwd:1>",
    "entities": "&amp;" * 12_000,
    "entities of entities": "&" + "amp;" * 12_000,
    "pipes": "|" * 60_000,
    "mixed brackets": "([" * 30_000,
    "nothing": "",
}.items():
    words(name, text, "refused" if name in TOO_MUCH else "taken")
for name, text in {
    "[] many times": "[" + "[]," * 5_000_000 + "1]",
    "a number of 5,000 digits": "9" * 5000,
    "an exponent of 400 digits": "1e" + "9" * 400,
    "a text without end": '"' + "\\" * 10**6,
    "a name a thousand times": "{" + '"a":1,' * 1000 + '"b":1}',
}.items():
    CASES.add("JSON", name, text)
CASES.add("JSON", "an exponent below all", "1e-" + "9" * 200, "taken")

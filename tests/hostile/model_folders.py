"""A model's folder whose configurations ask for what cannot be, or for too much."""

import json
import os

from kerasdiffusion.weights.controls import read_control_config
from kerasdiffusion.weights.folders import read_folder, write_configs
from kerasdiffusion.weights.load import locate, read_config
from tests.hostile.harness import Collection
from tests.hostile.tensor_files import entry, safetensors
from tests.tiny import TINY

CASES = Collection()
CASES.reader("configs")(read_folder)
CASES.reader("controls")(read_control_config)


@CASES.reader("places")
def places(folder):
    return locate(folder, ["diffusion_model"], None)


@CASES.reader("single files")
def single(path):
    return read_config(path)


PLACES = {
    "unet": "unet/config.json",
    "vae": "vae/config.json",
    "text": "text_encoder/config.json",
    "noise": "scheduler/scheduler_config.json",
    "index": "model_index.json",
    "own": "kerasdiffusion.json",
    "tokens": "tokenizer/tokenizer_config.json",
}


def folder_with(part: str, change):
    """A folder of `TINY`, of which a file is something else."""

    def make(folder):
        write_configs(folder, TINY)
        path = folder / PLACES[part]
        path.parent.mkdir(exist_ok=True)
        values = json.loads(path.read_text()) if path.exists() else {}
        content = change(values) if callable(change) else change
        if isinstance(content, str):
            path.write_text(content)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(json.dumps(content))
        return folder

    return make


#: What says nothing (null is what diffusers has where nothing is said), is not used
#: beside what the folder says elsewhere, or is a name that is refused when it is used.
HARMLESS = (
    "sample_size",
    "layers_per_block 'None'",
    "scaling_factor null",
    "num_hidden_layers  None",
    "beta_end  None",
    "own: generation {'sampler': 'os.system'}",
    "own: schedule",
    "own: no_such_part",
)


def add(part: str, name: str, change, outcome="refused", **more):
    if any(each in f"{part}: {name}" for each in HARMLESS):
        outcome = "taken"
    CASES.add("configs", f"{part}: {name}", folder_with(part, change), outcome, **more)


def but(**values):
    return lambda found: {**found, **values}


CASES.add("configs", "a good one", folder_with("unet", lambda x: x), "taken")
for part in PLACES:
    many = {
        "a list": [1],
        "a number": "1",
        "null": "null",
        "no JSON": "{",
        "nothing": "",
        "no UTF-8": b'{"a": "\xff\xfe"}',
        "nested": "[" * 10**5,
        "nested in a field": '{"_class_name":' * 9000 + "1" + "}" * 9000,
        "a field twice": '{"sample_size": 4, "sample_size": 8}',
    }
    for name, change in many.items():
        if part != "tokens" or name not in ("null",):
            add(part, name, change)
for part in ("unet", "vae", "text", "noise", "index"):
    name = f"{part}: a link to a device"

    @CASES.case("configs", name, "taken" if part == "index" else "refused")
    def _(folder, part=part):
        write_configs(folder, TINY)
        (folder / PLACES[part]).unlink()
        (folder / PLACES[part]).symlink_to("/dev/zero")
        return folder

    @CASES.case("configs", f"{part}: a pipe", "taken" if part == "index" else "refused")
    def _(folder, part=part):
        write_configs(folder, TINY)
        (folder / PLACES[part]).unlink()
        os.mkfifo(folder / PLACES[part])
        return folder


HUGE = 10**9
for field, value in {
    "block_out_channels": [HUGE, HUGE],
    "layers_per_block": HUGE,
    "cross_attention_dim": HUGE,
    "attention_head_dim": 0,
    "norm_num_groups": 0,
    "in_channels": HUGE,
    "out_channels": -4,
    "transformer_layers_per_block": HUGE,
    "sample_size": HUGE,
    "down_block_types": ["CrossAttnDownBlock2D"] * 10**5,
    "act_fn": {"module": "os"},
}.items():
    add("unet", f"{field} {str(value)[:20]}", but(**{field: value}))
for field in ("block_out_channels", "layers_per_block", "cross_attention_dim"):
    for value in (None, "x", -1, 0, 1.5, True, [[]], {}, "9" * 400):
        add("unet", f"{field} {str(value)[:9]!r}", but(**{field: value}))
    add("unet", f"{field} of 400 digits", f'{{"{field}": {"9" * 400}}}')
add("unet", "a class that would run", but(_class_name="os.system"), "taken")
module = but(_attn_implementation_internal="owner/name")
add("unet", "a module to import", module, "taken")
for field, value in {
    "block_out_channels": [HUGE, HUGE],
    "latent_channels": HUGE,
    "layers_per_block": HUGE,
    "norm_num_groups": 0,
    "in_channels": -3,
    "scaling_factor": 0.0,
    "sample_size": HUGE,
    "latents_mean": [float("nan")] * 4,
}.items():
    add("vae", f"{field} {str(value)[:20]}", but(**{field: value}))
for value in ("NaN", "Infinity", "1e999", "-1e400", '"x"', "null", "[]", "1" * 400):
    add("vae", f"scaling_factor {value[:9]}", f'{{"scaling_factor": {value}}}')
for field, value in {
    "vocab_size": HUGE,
    "max_position_embeddings": HUGE,
    "hidden_size": HUGE,
    "num_hidden_layers": HUGE,
    "num_attention_heads": 0,
    "intermediate_size": HUGE,
    "hidden_act": ["gelu"],
    "architectures": [{}],
    "vocab_size ": -1,
    "hidden_size ": "32",
    "num_hidden_layers ": None,
    "architectures ": 7,
}.items():
    add("text", f"{field} {str(value)[:20]}", but(**{field.strip(): value}))
for field, value in {
    "num_train_timesteps": HUGE,
    "num_train_timesteps ": 0,
    "num_train_timesteps  ": -5,
    "num_train_timesteps   ": "1000",
    "beta_start": float("nan"),
    "beta_start ": -1.0,
    "beta_end": 7.0,
    "beta_end ": None,
    "beta_schedule": ["linear"],
    "prediction_type": {},
    "_class_name": 7,
    "_class_name ": "os.system",
    "variance_type": 7,
    "steps_offset": "x",
}.items():
    add("noise", f"{field} {str(value)[:20]}", but(**{field.strip(): value}))
for value in (7, ["x"], {"a": 1}, "FluxPipeline", "x" * 10**6):
    add("index", f"_class_name {str(value)[:12]}", but(_class_name=value))
add("index", "a custom pipeline", but(_class_name=["../../evil", "Pipeline"]))
for field, value in {
    "generation": [],
    "generation ": {"num_steps": HUGE},
    "generation  ": {"num_steps": "x"},
    "generation   ": {"height": HUGE, "width": HUGE},
    "generation    ": {"sampler": "os.system"},
    "generation     ": {"sampler": ["euler"]},
    "generation      ": {"guidance_scale": float("nan")},
    "generation       ": {"no_such_field": 1},
    "schedule": {"train_steps": HUGE},
    "no_such_part": {},
}.items():
    add(
        "own",
        f"{field.strip()} {str(value)[:24]}",
        but(**{field.strip(): value}),
        "refused",
    )
for value in (HUGE, 10**30, -1, "77", None, [77], 0.5, 0, 1, 77.0):
    add(
        "tokens",
        f"model_max_length {str(value)[:12]}",
        but(model_max_length=value),
        "taken" if value in (HUGE, 10**30, 77.0, None) else "refused",
    )

# Original files' metadata and shapes.


def metadata(name: str, header, outcome="refused"):
    def make(folder):
        (folder / "a.safetensors").write_bytes(safetensors(header, b"\0" * 4))
        return folder / "a.safetensors"

    CASES.add("single files", name, make, outcome)


from kerasdiffusion.weights.detect import METADATA_KEY  # noqa: E402

metadata("one tensor", {"a": entry()})
for name, text in {
    "no JSON": "{",
    "nested": "[" * 10**5,
    "a list": "[1]",
    "huge": json.dumps({"diffusion_model": {"block_widths": [HUGE] * 9}}),
    "of megabytes": "x" * 10**6,
    "a class to make": json.dumps({"diffusion_model": {"__class__": "os.system"}}),
}.items():
    metadata(
        f"our metadata, {name}", {"__metadata__": {METADATA_KEY: text}, "a": entry()}
    )
for key in (
    "model.diffusion_model.input_blocks.0.0.weight",
    "model.diffusion_model.input_blocks.99999999.0.weight",
    "model.diffusion_model.input_blocks.-1.0.weight",
    "model.diffusion_model.input_blocks.x.0.weight",
    "cond_stage_model.transformer.text_model.encoder.layers.99999999.mlp.fc1.weight",
    "first_stage_model.decoder.conv_in.weight",
    "controlnet_cond_embedding.conv_in.weight",
    "a" * 10**6,
):
    metadata(f"a tensor named {key[:60]}", {key: entry()})
for key in (
    "controlnet_cond_embedding.conv_in.weight",
    "adapter.body.0.in_conv.weight",
    "x",
):

    @CASES.case("controls", f"a control of one tensor, {key}")
    def _(folder, key=key):
        (folder / "a.safetensors").write_bytes(safetensors({key: entry()}, b"\0" * 4))
        return folder / "a.safetensors"


for name, config in {
    "a list": [1],
    "another class": {"_class_name": "os.system"},
    "huge": {"_class_name": "ControlNetModel", "block_out_channels": [HUGE] * 4},
    "huge hints": {
        "_class_name": "ControlNetModel",
        "conditioning_embedding_out_channels": [HUGE] * 4,
    },
    "many hints": {
        "_class_name": "ControlNetModel",
        "conditioning_embedding_out_channels": [16] * 10**5,
    },
    "an adapter, huge": {"_class_name": "T2IAdapter", "channels": [HUGE] * 4},
    "an adapter, deep": {"_class_name": "T2IAdapter", "num_res_blocks": HUGE},
    "an adapter of text": {"_class_name": "T2IAdapter", "channels": "x"},
}.items():

    @CASES.case("controls", f"a config, {name}")
    def _(folder, config=config):
        (folder / "config.json").write_text(json.dumps(config))
        return folder


# Folders.
for source in (
    "",
    "\0",
    "~nobody-here/x",
    "none",
    "a" * 10**5,
    "hf://",
    "hf://../x",
    "hf://a/b/../c",
):
    CASES.add("places", f"a source {source[:14]!r}", source)
for source in (
    "asset://../emoji",
    "asset://",
    "file:///etc",
    "http://127.0.0.1/x",
    "hf://a/b@../c",
):
    CASES.add("places", f"a source {source!r}", source)


@CASES.case("places", "an empty folder")
def _(folder):
    return folder


@CASES.case("places", "a folder that is its own part")
def _(folder):
    (folder / "unet").symlink_to(folder)
    return folder


@CASES.case("places", "weights that are a folder")
def _(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").mkdir(parents=True)
    return folder

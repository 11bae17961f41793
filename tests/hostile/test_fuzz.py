"""Random input over each reader: it is taken, or refused in a sentence.

`KERASDIFFUSION_FUZZ=100000 pytest tests/hostile/test_fuzz.py` draws that many for each,
others at each run; by default they are few, and the same.
"""

import json
import os
import string
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.weights.configs import (
    text_encoder_from_json,
    text_encoder_to_json,
    vae_from_json,
    vae_to_json,
)
from kerasdiffusion.weights.schedule_json import schedule_from_json, schedule_to_json
from kerasdiffusion.weights.unet_json import unet_from_json, unet_to_json
from tests.hostile import pickled, pictures, tensor_files, texts
from tests.hostile.harness import FITTING, LONGEST
from tests.tiny import TINY

EXAMPLES = int(os.environ.get("KERASDIFFUSION_FUZZ", 0))
pytestmark = pytest.mark.timeout(EXAMPLES + 600)
few = settings(
    max_examples=EXAMPLES or 40,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def holds(reader, argument) -> None:
    """That a reader takes something, or refuses it as it should."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            reader(argument)
        except FITTING as error:
            said = str(error)
            assert "Received" in said, f"{type(error).__name__}: {said[:500]}"
            assert len(said) <= LONGEST


@st.composite
def changed(draw, whole: bytes) -> bytes:
    """A file of which some bytes are others."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(0, 8))
        new = draw(st.binary(max_size=8))
        how = draw(st.sampled_from(("replace", "insert", "cut", "repeat")))
        if how == "replace":
            data[place : place + len(new)] = new
        elif how == "insert":
            data[place:place] = new
        elif how == "cut":
            del data[place : place + length]
        else:
            data[place:place] = data[place : place + length] * 9
    return bytes(data)


numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, 1, -1, 2**31, 2**63, 2**64, 10**30, 1e308, 1e-308]),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=9)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=5), inner, max_size=4),
    ),
    max_leaves=12,
)


def file_reader(name: str, whole: bytes, reader):
    @few
    @given(changed(whole))
    def test(tmp_path, data):
        path = tmp_path / name
        path.write_bytes(data)
        holds(reader, path)

    return test


HEADER = {
    "__metadata__": {"format": "pt"},
    "a": tensor_files.entry((2, 2), 0, 16),
    "b": tensor_files.entry((3,), 16, 22, "F16"),
}
SAFETENSORS = tensor_files.safetensors(HEADER, bytes(22))
PICKLE = pickled.state(("a", pickled.tensor()), ("b", pickled.tensor(shape=(4,))))
test_safetensors = file_reader("a.safetensors", SAFETENSORS, tensor_files.read_all)
test_pickles = file_reader("a.bin", PICKLE, tensor_files.read_all)
test_zip_files = file_reader("a.ckpt", pickled.archive(PICKLE), tensor_files.read_all)
test_png_files = file_reader("a.png", pictures.png(), pictures.read_pictures)
MADE = pictures.itxt(b"a cat\nSteps: 20, Sampler: Euler a, Seed: 1, Size: 64x64")
MADE = pictures.png(32, 32, None, MADE)
test_png_texts = file_reader("a.png", MADE, pictures.read_parameters)
GIF, MP4 = pictures.gif(pictures.SAID), pictures.mp4(pictures.SAID)
test_gif_comments = file_reader("a.gif", GIF, pictures.read_parameters)
test_mp4_comments = file_reader("a.mp4", MP4, pictures.read_parameters)


@few
@given(changed(PICKLE))
def test_pickles_in_zip_files(tmp_path, data):
    path = tmp_path / "a.ckpt"
    path.write_bytes(pickled.archive(data))
    holds(tensor_files.read_all, path)


@few
@given(st.dictionaries(st.sampled_from("ab"), values), st.binary(max_size=32))
def test_headers(tmp_path, header, data):
    path = tmp_path / "a.safetensors"
    path.write_bytes(tensor_files.safetensors(header, data))
    holds(tensor_files.read_all, path)


def config_reader(whole: dict, reader):
    @few
    @given(
        st.dictionaries(st.sampled_from(sorted(whole)), values, min_size=1, max_size=3)
    )
    def test(fields):
        holds(reader, json.loads(json.dumps({**whole, **fields})))

    return test


test_unet_configs = config_reader(unet_to_json(TINY.diffusion_model), unet_from_json)
test_vae_configs = config_reader(vae_to_json(TINY.autoencoder), vae_from_json)
test_text_encoder_configs = config_reader(
    text_encoder_to_json(TINY.text_encoder), text_encoder_from_json
)
test_schedules = config_reader(
    schedule_to_json(ModelConfig().schedule), schedule_from_json
)


@few
@given(st.text(alphabet='[]{}",:0123456789.eE+-truefalsn \\u', max_size=60))
def test_json(text):
    holds(texts.value, text)


SYNTAX = st.sampled_from(
    ["(", ")", "[", "]", ":", "|", "\\", "AND", "BREAK", "<lora:", ">", "#", ",", " "]
    + ["a", "cat", "1.2", "0.5", "-3", "1e9", "nan", "\n", "é", "\ud800", "\0", "&amp;"]
)


@few
@given(st.lists(SYNTAX, max_size=60).map("".join))
def test_prompts(prompt):
    holds(texts.prompt, prompt)


LABELS = st.sampled_from(
    ["Steps", "Sampler", "CFG scale", "Seed", "Size", "Eta", "Schedule type", "Version"]
    + ["Denoising strength", "Clip skip", "RNG", "Model", "Hires upscale", "Spacing"]
    + ["Batch size", "Batch pos", "Batch prompts", "Batch seeds", "Grid", "Prompts"]
    + ["Frames", "Closed", "Sigmas", "Timesteps", "FreeU", "Adapters", "PAG layers"]
)
SAID = st.one_of(
    st.sampled_from(
        ["20", "Euler a", "DPM2", "Karras", "64x64", '"', "{", "CPU"]
        + ["kerasdiffusion 1", '"[\\"a\\", \\"b\\"]"', '"1,2"']
    ),
    st.text(alphabet=string.printable, max_size=12),
    numbers.map(str),
)


@few
@given(st.text(max_size=20), st.lists(st.tuples(LABELS, SAID), max_size=9))
def test_parameters(prompt, pairs):
    line = ", ".join(f"{label}: {said}" for label, said in pairs)
    holds(texts.parameters, f"{prompt}\n{line}")


@few
@given(
    st.dictionaries(
        st.sampled_from(sorted(texts.SAMPLER["inputs"])),
        st.one_of(values, st.tuples(st.sampled_from("12345"), st.just(0)).map(list)),
        max_size=4,
    ),
    st.dictionaries(st.sampled_from("2345"), values, max_size=2),
)
def test_graphs(inputs, nodes):
    holds(texts.graph, json.dumps({**texts.with_inputs(**inputs), **nodes}))

"""Pictures that every task follows."""

import dataclasses

import keras
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from kerasdiffusion import Control, StableDiffusion
from kerasdiffusion.adapters.read import read_adapter
from kerasdiffusion.compute import backend
from kerasdiffusion.models.controlnet import ControlNet
from kerasdiffusion.models.t2i_adapter import T2IAdapter
from kerasdiffusion.networks.control import (
    Networks,
    _check_fits,
    check_controls,
    control_network,
    told,
)
from kerasdiffusion.presets import named
from kerasdiffusion.presets.config import (
    ControlNetConfig,
    DiffusionModelConfig,
    ScheduleConfig,
    T2IAdapterConfig,
)
from kerasdiffusion.presets.controls import CONTROLS, find_control
from kerasdiffusion.sampling.samplers import make_table
from kerasdiffusion.weights import names
from kerasdiffusion.weights.arrays import to_stored
from tests.tiny import TINY, enliven
from tests.weights.test_controls import tensors_of

PICTURE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
APPLE = "a red apple"
CONFIG = ControlNetConfig(
    **dataclasses.asdict(TINY.diffusion_model), picture_widths=(8, 12)
)
ADAPTER = T2IAdapterConfig(block_widths=(32, 64), downsampling=2)
compiled = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="PyTorch runs eagerly: nothing is traced"
)


def lively_network(kind, config, seed=5):
    with backend.empty_weights():
        network = kind(config)
    enliven([network], seed)
    return network


@pytest.fixture(scope="module")
def network():
    return lively_network(ControlNet, CONFIG)


@pytest.fixture(scope="module")
def adapter():
    return lively_network(T2IAdapter, ADAPTER)


def paint(model, control, prompt=APPLE, **options):
    options = {"seed": 1, "num_steps": 4, "progress_bar": False, **options}
    return model.text_to_image(prompt, control=control, **options)


def distance(a, b):
    return np.abs(a.astype("float64") - b).mean()


@pytest.mark.every_backend
def test_pictures_are_followed_the_more_the_larger_the_scale(tiny, network, adapter):
    plain = paint(tiny, None)
    for each in (network, adapter):
        nothing, some, more = (
            paint(tiny, Control(each, PICTURE, scale=scale)) for scale in (0, 0.4, 1.0)
        )
        assert np.abs(plain.astype(int) - nothing).max() <= 1
        assert 0.1 < distance(plain, some) < distance(plain, more)
        another = paint(tiny, Control(each, PICTURE[::-1]))
        assert distance(more, another) > 0.1


def test_several_add_up(tiny, network):
    """Two halves of one network are the network."""
    half = Control(network, PICTURE, scale=0.5)
    whole = paint(tiny, Control(network, PICTURE))
    assert np.abs(paint(tiny, [half, half]).astype(int) - whole).max() <= 1


@compiled
@pytest.mark.every_backend
def test_nothing_that_is_turned_compiles_anew(tiny, network):
    paint(tiny, Control(network, PICTURE))
    traces = dict(tiny.traces)
    other = Control(
        network, PICTURE[::-1], scale=0.3, start=0.2, end=0.6, guess_mode=True
    )
    paint(tiny, other, "two cats", sampler="euler_ancestral", num_steps=7, seed=5)
    assert tiny.traces == traces


def test_start_and_end_are_shares_of_the_calls():
    table = make_table(ScheduleConfig(), "euler", 10)

    def calls(start, end, table=table):
        control = Control("canny", PICTURE, start=start, end=end)
        network = lively_network(T2IAdapter, ADAPTER)
        control = dataclasses.replace(control, network=network)
        (found,) = told(check_controls(control, TINY, 1, (32, 32)), table)
        return found["calls"].tolist()

    assert calls(0.0, 1.0) == [0, 10]
    assert calls(0.2, 0.7) == [2, 7]
    assert calls(0.25, 0.75) == [3, 7]
    assert calls(0.41, 0.45) == [0, 0]
    # Heun has two calls a step, but for the last.
    assert calls(0.5, 1.0, make_table(ScheduleConfig(), "heun", 5)) == [5, 9]
    # Of the last steps of a run.
    assert calls(0.5, 1.0, table.since(6)) == [8, 10]


@pytest.mark.every_backend_at_length
def test_each_prompt_may_have_its_picture(tiny, network):
    pictures = [PICTURE, PICTURE[::-1]]
    two = paint(tiny, Control(network, pictures), [APPLE, "two cats"])
    (alone,) = paint(tiny, Control(network, PICTURE[::-1]), "two cats", seed=2)
    assert np.abs(two[1].astype(int) - alone).max() <= 1
    (four,) = check_controls(Control(network, pictures), TINY, 4, (32, 32))
    for i in range(4):
        assert (four.pictures[i] == pictures[i // 2]).all()


def test_any_picture_will_do(tiny, network, tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    expected = paint(tiny, Control(network, PICTURE))
    for picture in (tmp_path / "a.png", Image.fromarray(PICTURE), PICTURE / 255.0):
        assert (paint(tiny, Control(network, picture)) == expected).all()


def test_a_grey_network_sees_how_bright_a_picture_is(tiny):
    config = dataclasses.replace(ADAPTER, picture_channels=1)
    network = lively_network(T2IAdapter, config)
    checked = check_controls(Control(network, PICTURE), TINY, 3, (32, 32))
    (found,) = told(checked, make_table(ScheduleConfig(), "euler", 2))
    assert found["pictures"].shape == (3, 32, 32, 1)
    grey = np.asarray(Image.fromarray(PICTURE).convert("L")) / 255.0
    np.testing.assert_allclose(found["pictures"][2, ..., 0], grey, atol=1 / 255.0)


def test_image_to_image_follows_a_picture_of_its_own_size(tiny, network):
    options = {"seed": 1, "num_steps": 4, "progress_bar": False, "strength": 0.8}
    start, edges = PICTURE[:29, :19], PICTURE[::-1][:29, :19]
    found, plain = (
        tiny.image_to_image(
            start, APPLE, control=Control(network, edges, scale=scale), **options
        )
        for scale in (1.0, 0.0)
    )
    assert found.shape == (1, 29, 19, 3) and distance(found, plain) > 0.5


def test_guidance_by_perturbed_attention_has_three_copies(tiny, network):
    found, plain, less = (
        paint(tiny, Control(network, PICTURE, scale=scale), pag_scale=pag)
        for scale, pag in ((1.0, 2.0), (0.0, 2.0), (1.0, 0.1))
    )
    assert distance(found, plain) > 0.5 and distance(found, less) > 0.5


def test_guess_mode_leaves_the_negative_prompt_alone():
    (found,) = check_controls(
        Control(lively_network(ControlNet, CONFIG), PICTURE, 0.5, guess_mode=True),
        TINY,
        1,
        (32, 32),
    )
    assert found.scales.shape == (2, len(CONFIG.skip_widths) + 1)
    assert (found.scales[0] == 0.0).all()
    np.testing.assert_allclose(found.scales[1, [0, -1]], [0.05, 0.5], rtol=1e-6)
    assert (np.diff(np.log(found.scales[1])) > 0.0).all()


def test_a_network_is_read_once_and_only_when_it_is_used(tmp_path):
    network = lively_network(T2IAdapter, ADAPTER)
    path = tmp_path / "adapter.safetensors"
    save_file(tensors_of(network), path)
    control, networks = Control(str(path), PICTURE), Networks("float32")
    (checked,) = check_controls(control, TINY, 1, (32, 32))
    assert isinstance(checked.source, str) and checked.config == ADAPTER
    found = networks.get(checked)
    assert networks.get(checked) is found
    for a, b in zip(network.weights, found.weights, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (a, b)))
    path.unlink()
    with pytest.raises(ValueError, match="no such file.*adapter.safetensors"):
        check_controls(control, TINY, 1, (32, 32))


def test_the_usual_networks_have_names():
    assert find_control("canny", 768) == "hf://lllyasviel/control_v11p_sd15_canny"
    assert find_control("canny", 1024).endswith("controlnet-sd21-canny-diffusers")
    assert find_control("canny", 2048) == "hf://diffusers/controlnet-canny-sdxl-1.0"
    assert find_control("t2i-canny", 768) == "hf://TencentARC/t2iadapter_canny_sd15v2"
    for name in ("lllyasviel/sd-controlnet-hed", "sd-controlnet-hed"):
        assert find_control(name) == "hf://lllyasviel/sd-controlnet-hed"
    assert find_control("hf://owner/name") == "hf://owner/name"
    sources = [
        each for kind in CONTROLS.values() for row in kind.values() for each in row
    ]
    assert len(set(sources)) == len(sources) > 50


def wide(**changes):
    network = ControlNet.__new__(ControlNet)
    keras.Model.__init__(network)
    network.config = dataclasses.replace(CONFIG, **changes)
    return network


@pytest.mark.parametrize(
    "control, error, message",
    [
        (5, TypeError, r"`control` must be a `Control\(network, picture\)`.*: 5"),
        ([None], TypeError, r"or a list of them. Received: \[None\]"),
        ({"network": 5}, TypeError, "`network` must be a name, a path.*: 5"),
        ({"network": keras.Sequential()}, TypeError, "a ControlNet or a T2IAdapter.*S"),
        ({"network": "cany"}, ValueError, "Did you mean canny.*Received: 'cany'"),
        ({"network": "canny"}, ValueError, "known for sd1, sd2, sdxl.*no family"),
        ({"network": "no/such.safetensors"}, ValueError, "no such file.*such.safetens"),
        ({"scale": "1"}, TypeError, "`scale` must be a number. Received: '1'"),
        ({"scale": float("nan")}, ValueError, "`scale` must be finite. Received: nan"),
        ({"start": -0.1}, ValueError, "`start` must be from 0 to 1. Received: -0.1"),
        ({"end": 1.5}, ValueError, "`end` must be from 0 to 1. Received: 1.5"),
        ({"start": 0.5, "end": 0.5}, ValueError, "less than its `end`.*start=0.5"),
        ({"picture": PICTURE[:16]}, ValueError, r"\(32, 32\). Received: \(16, 32\)"),
        ({"picture": 5}, TypeError, "must be a path, a PIL image.*: int"),
        ({"picture": [PICTURE] * 2}, ValueError, "the 1 results. Received: 2 pictures"),
        (
            {"network": wide(context_width=768)},
            ValueError,
            "family, whose U-Net has context_width 32. Received: .* with 768",
        ),
        (
            {"network": wide(block_widths=(32, 32))},
            ValueError,
            r"U-Net has skips \[32, 32, 32, 64\]. Received: .* with \[32, 32, 32, 32\]",
        ),
        (
            {"network": wide(picture_widths=(8, 8, 8, 8))},
            ValueError,
            "U-Net has downsampling 2. Received: .* with 8",
        ),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_built(control, error, message):
    model = StableDiffusion(config=TINY, weights=None)
    if isinstance(control, dict):
        control = {"network": wide(), "picture": PICTURE, **control}
        control = Control(**control)
    with pytest.raises(error, match=message):
        paint(model, control)
    assert not model.built and model.traces == {}


def test_an_adapter_must_have_the_unets_levels(tiny):
    for config in (
        dataclasses.replace(ADAPTER, block_widths=(32, 32)),
        dataclasses.replace(ADAPTER, downsampling=4),
    ):
        network = lively_network(T2IAdapter, config)
        with pytest.raises(
            ValueError, match=r"U-Net has levels \[\(32, 2\), \(64, 4\)"
        ):
            paint(tiny, Control(network, PICTURE))


def test_control_network_reads_what_a_file_says(tmp_path):
    network = lively_network(T2IAdapter, ADAPTER)
    save_file(tensors_of(network), tmp_path / "a.safetensors")
    again = control_network(tmp_path / "a.safetensors")
    assert isinstance(again, T2IAdapter) and again.config == ADAPTER
    with pytest.raises(ValueError, match="no family"):
        control_network("canny")


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "start", ["base_model.model.", "controlnet.", "lora_controlnet_"]
)
def test_adapters_of_a_controlnet(start, network, tmp_path):
    """Merged as it is read; a model refuses the file, and says where it belongs."""
    table = {each.name: each for each in names.tensors("controlnet", CONFIG)}
    own = {
        names.canonical_name(each.path, network.name): to_stored(each)
        for each in network.weights
    }
    assert own.keys() == table.keys()
    save_file(own, tmp_path / "control.safetensors")
    random, tensors, wanted = np.random.default_rng(0), {}, {}
    q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    for name in ("controlnet_down_blocks.0", "controlnet_cond_embedding.conv_in", q):
        outs, ins, *sides = own[f"{name}.weight"].shape
        up = random.normal(size=(outs, 2, *(1 for _ in sides))).astype("float32")
        down = random.normal(size=(2, ins, *sides)).astype("float32")
        factors = up.reshape(outs, 2), down.reshape(2, -1)
        wanted[f"{name}.weight"] = (factors[0] @ factors[1]).reshape(outs, ins, *sides)
        stem = start + (name.replace(".", "_") if start.endswith("_") else name)
        tensors |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
    save_file(tensors, tmp_path / "lora.safetensors")
    asked = [(tmp_path / "lora.safetensors", 0.5)]
    changed = control_network(tmp_path / "control.safetensors", adapters=asked)
    for variable in changed.weights:
        name = names.canonical_name(variable.path, changed.name)
        expected = own[name] + 0.5 * wanted.get(name, 0.0)
        np.testing.assert_allclose(to_stored(variable), expected, atol=1e-5)
    where = "is for a ControlNet: `control_network"
    with pytest.raises(ValueError, match=where):
        read_adapter(tmp_path / "lora.safetensors", TINY)


def test_published_layouts_fit_their_models():
    """Of the families' own sizes, without any network."""
    for model, adapter in (
        (named.SD1, T2IAdapterConfig()),
        (named.SD2, T2IAdapterConfig()),
        (named.SDXL, T2IAdapterConfig("full_adapter_xl", downsampling=16)),
        (named.SD1, T2IAdapterConfig("light_adapter", blocks_per_level=4)),
        (named.SD1_INPAINTING, T2IAdapterConfig()),
    ):
        unet = dataclasses.asdict(model.diffusion_model)
        own = ControlNetConfig(**{**unet, "in_channels": 4})
        _check_fits(own, model, "own")
        _check_fits(adapter, model, "adapter")
    assert DiffusionModelConfig().skip_widths == [320] * 4 + [640] * 3 + [1280] * 5
    with pytest.raises(ValueError, match="context_width 2048|vector_width 2816"):
        _check_fits(ControlNetConfig(), named.SDXL, "sd1")
    with pytest.raises(ValueError, match="levels"):
        _check_fits(T2IAdapterConfig(), named.SDXL, "sd1")

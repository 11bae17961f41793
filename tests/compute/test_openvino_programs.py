"""Pictures by way of OpenVINO: those of TensorFlow, from programs of its own."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion import Control, StableDiffusion
from kerasdiffusion.compute import backend, openvino_programs
from kerasdiffusion.models.controlnet import ControlNet
from kerasdiffusion.models.layers import Conv, Dense
from kerasdiffusion.networks.quantization import quantize
from kerasdiffusion.presets.config import ControlNetConfig
from tests.tiny import TINY, TINY_SDXL, enliven, tiny_model

tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow traces the programs"
)
PICTURE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
MASK = np.zeros((32, 32), bool)
MASK[8:24, 8:24] = True
APPLE = "a red apple"


@pytest.fixture(scope="module")
def openvino():
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    return tiny_model(jit_compile="openvino")


def paint(model, task="text_to_image", *given, prompt=APPLE, **options):
    """Pictures, and the latents that they are decoded from."""
    seen = []
    options = {"seed": 1, "num_steps": 3, "progress_bar": False, **options}
    if task != "text_to_image":
        given = (*given, prompt)
    else:
        given = (prompt, *given)
    pictures = getattr(model, task)(*given, callback=seen.append, **options)
    return pictures, seen[-1].latents


def both(openvino, tiny, *args, **options):
    """Pictures by OpenVINO, whose latents are those of TensorFlow."""
    pictures, latents = paint(openvino, *args, **options)
    expected, expected_latents = paint(tiny, *args, **options)
    assert latents == pytest.approx(expected_latents, abs=1e-3)
    assert np.abs(expected_latents).max() > 0.3
    assert np.abs(pictures.astype(int) - expected).max() <= 1
    assert expected.std() > 20
    return pictures


@tensorflow
class TestPictures:
    def test_of_text(self, openvino, tiny):
        both(openvino, tiny, batch_size=2, sampler="dpmpp_sde", seed=7)

    def test_of_pictures(self, openvino, tiny):
        both(openvino, tiny, "image_to_image", PICTURE, strength=0.7)

    def test_in_part(self, openvino, tiny):
        pictures = both(openvino, tiny, "inpaint", PICTURE, MASK)
        assert (pictures[0][0] == PICTURE[0]).all()

    def test_that_follow_others(self, openvino, tiny):
        config = ControlNetConfig(
            **dataclasses.asdict(TINY.diffusion_model), picture_widths=(8, 12)
        )
        network = ControlNet(config)
        enliven([network], seed=5)
        followed = both(openvino, tiny, control=Control(network, PICTURE))
        assert (followed != paint(openvino)[0]).any()
        # Its weights are in the program too.
        enliven([network], seed=6)
        other = both(openvino, tiny, control=Control(network, PICTURE))
        assert (other != followed).any()

    def test_by_guidance_that_looks_into_the_network(self, openvino, tiny):
        both(openvino, tiny, pag_scale=2.0, sag_scale=0.5, guidance_rescale=0.3)

    def test_of_two_text_encoders(self, request):
        first, second = (
            tiny_model(config=TINY_SDXL, jit_compile=each)
            for each in ("openvino", False)
        )
        for read in ("encode_text", "encode_pooled"):
            found, expected = (getattr(each, read)(APPLE) for each in (first, second))
            np.testing.assert_allclose(found, expected, atol=1e-3)
        if request.config.getoption("--full-size"):
            both(first, second, num_steps=1)

    @pytest.mark.heavy
    def test_in_tiles(self, openvino, tiny):
        models = [
            tiny_model(
                img_height=64, img_width=96, tiling=64, jit_compile=model.compiler
            )
            for model in (openvino, tiny)
        ]
        both(*models, num_steps=1)


@tensorflow
@pytest.mark.heavy
def test_weights_of_8_bits_give_the_same_pictures():
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    models = [tiny_model(seed=3, jit_compile=each) for each in ("openvino", False)]
    for model in models:
        model.quantize("int8", parts=["diffusion_model"])
    both(*models)


def runs(program):
    """What kinds of operations OpenVINO runs, and the dtypes of its constants."""
    (compiled,) = program._kept._programs.values()
    nodes = compiled._request.get_compiled_model().get_runtime_model().get_ops()
    told = [node.get_rt_info() for node in nodes]
    kinds = [each["layerType"] for each in told]
    constants = [
        each["outputPrecisions"] for each in told if each["layerType"] == "Const"
    ]
    return kinds, constants


@tensorflow
@pytest.mark.parametrize("layer", ["dense", "pixels", "large", "small", "strided"])
def test_a_kernel_of_8_bits_is_not_made_floats_in_every_call(layer):
    """For a large image once, as it compiles; for a small one never."""
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    side, made = {
        "dense": (8, Dense(256, name="dense")),
        "pixels": (8, Conv(256, 1, name="conv")),
        "large": (32, Conv(256, 3, name="conv")),
        "small": (8, Conv(256, 3, name="conv")),
        "strided": (8, Conv(256, 3, name="conv", strides=2, padding="valid")),
    }[layer]
    x = np.random.default_rng(0).standard_normal((1, side, side, 64), "float32")
    made(x)
    enliven([made], seed=1)
    quantize(made)
    program = backend.Program(made, [made], "openvino")
    found = backend.to_numpy(program(x))
    assert found == pytest.approx(backend.to_numpy(made(x)), rel=1e-4, abs=1e-4)
    kinds, constants = runs(program)
    assert "Convert" not in kinds
    assert ("FullyConnected" in kinds) == (layer in ("dense", "pixels", "small"))
    assert ("i8" in constants) == (layer in ("dense", "pixels", "small"))


@tensorflow
def test_bfloat16_is_as_near_to_float32_as_it_is_on_tensorflow(openvino, tiny):
    _, exact = paint(tiny)
    errors = []
    for jit_compile in ("openvino", False):
        model = tiny_model(precision="bfloat16", jit_compile=jit_compile)
        _, latents = paint(model)
        errors.append(np.abs(latents - exact).mean())
    assert 0 < errors[0] < 1.2 * errors[1]


@tensorflow
def test_what_is_turned_between_two_calls_compiles_nothing(openvino):
    paint(openvino)
    before = openvino.traces
    assert before["denoise"] and before["decode"] and before["encode"]
    paint(
        openvino,
        prompt="two cats",
        seed=9,
        num_steps=5,
        sampler="euler_ancestral",
        unconditional_guidance_scale=3.0,
    )
    assert openvino.traces == before
    for _ in range(2):  # of two shapes in turn
        paint(openvino, batch_size=3)
        paint(openvino)
    assert openvino.traces["denoise"] == before["denoise"] + 1


@tensorflow
def test_the_latest_programs_are_kept():
    """Each has the weights once more."""
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    dense = keras.layers.Dense(2)
    dense.build((None, 3))
    program = backend.Program(dense, [dense], "openvino")
    for count, traces in ((1, 1), (2, 2), (1, 2), (3, 3), (1, 3), (2, 4)):
        x = np.ones((count, 3), "float32")
        found = backend.to_numpy(program(x))
        assert found == pytest.approx(x @ np.array(dense.kernel), abs=1e-6)
        assert program.traces == traces


@tensorflow
def test_what_new_weights_take_is_told(capfd):
    """Once, as it compiles: not at the first call, and not where nothing changed."""
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    dense, x = keras.layers.Dense(2), np.ones((1, 3), "float32")
    dense.build((None, 3))
    program = backend.Program(dense, [dense], "openvino")
    for change, told in ((False, 0), (False, 0), (True, 1), (False, 0)):
        if change:
            dense.kernel.assign(2 * dense.kernel.value)
        program(x)
        assert capfd.readouterr().err.count("OpenVINO compiled a program anew") == told


@pytest.fixture(scope="module")
def models():
    """One by OpenVINO and one by TensorFlow, with weights of their own."""
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    return tiny_model(seed=3, jit_compile="openvino"), tiny_model(seed=3)


@tensorflow
class TestNewWeights:
    """They are copied into the program, so that it has to see that they changed."""

    def change_one_number(model):
        variable = model.decoder.post_quant_conv.kernel
        value = np.array(variable)
        value[0, 0, 0, 0] += 0.5
        variable.assign(value)

    def add_in_place(model):
        variable = model.diffusion_model.conv_out.kernel
        variable.value.assign_add(0.01 * ops.ones(variable.shape))

    def train(model):
        decoder = model.decoder
        decoder.compile("adam", "mse", jit_compile=False)
        latents = np.ones((1, *model.latent_shape), "float32")
        decoder.fit(latents, np.zeros((1, 32, 32, 3)), verbose=0)

    def give_back_memory(model):
        """New values may land where the old ones were, were those not kept."""
        for variable in model.diffusion_model.weights:
            variable.assign(1.1 * variable.value)

    @pytest.mark.parametrize(
        "change",
        [
            change_one_number,
            add_in_place,
            pytest.param(train, marks=pytest.mark.heavy),
            give_back_memory,
        ],
    )
    def test_are_painted_with(self, models, change):
        model, plain = models
        before, _ = paint(model)
        change(model)
        after, _ = paint(model)
        assert (after != before).any()
        for mine, theirs in zip(plain.weights, model.weights, strict=True):
            mine.assign(theirs)
        assert np.abs(paint(plain)[0].astype(int) - after).max() <= 1
        traces = model.traces
        assert (paint(model)[0] == after).all() and model.traces == traces

    def test_are_looked_for_without_a_copy(self, openvino):
        for variable in openvino.diffusion_model.weights:
            first, second = (openvino_programs._read(variable) for _ in range(2))
            assert openvino_programs._address(first) == openvino_programs._address(
                second
            )


@tensorflow
def test_fit_is_not_by_openvino(openvino):
    assert openvino.jit_compile is False


def test_it_must_be_installed(monkeypatch):
    monkeypatch.setattr(openvino_programs.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r'pip install "\.\[openvino\]" in'):
        openvino_programs.check("tensorflow", False)


@pytest.mark.parametrize(
    ("name", "accelerator", "message"),
    [
        ("jax", False, "needs the TensorFlow backend, .* Received: .* on jax"),
        ("tensorflow", True, "computes on CPUs; .* Received: .* with a GPU"),
    ],
)
def test_it_has_its_place(name, accelerator, message):
    with pytest.raises(ValueError, match=message):
        openvino_programs.check(name, accelerator)


@pytest.mark.every_backend
@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="it may there")
def test_it_is_refused_before_anything_is_built():
    with pytest.raises(ValueError, match="needs the TensorFlow backend"):
        StableDiffusion(weights=None, jit_compile="openvino")


@pytest.mark.every_backend
def test_other_words_are_refused():
    with pytest.raises(ValueError, match='"auto" or "openvino". Received: .OpenVino'):
        backend.resolve_jit_compile("OpenVino")

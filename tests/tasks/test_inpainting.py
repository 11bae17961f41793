"""Tasks that paint a part of a picture, or around it."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image

from kerasdiffusion import Control, StableDiffusion
from kerasdiffusion.models.controlnet import ControlNet
from kerasdiffusion.pictures.regions import Box, enlarged
from kerasdiffusion.sampling.noise import initial_noise
from kerasdiffusion.sampling.samplers import SAMPLERS
from kerasdiffusion.tasks.image_to_image import encode_pictures
from tests.networks.test_control import CONFIG, lively_network, wide
from tests.peers.quick import quick
from tests.pictures.test_read import bomb
from tests.tasks.test_image_to_image import APPLE, PICTURE
from tests.tiny import TINY, tiny_model

MASK = np.zeros((32, 32), np.uint8)
MASK[6:20, 10:30] = 255
WHITE = MASK == 255
LARGE = np.random.default_rng(1).integers(0, 256, (90, 75, 3), np.uint8)
NINE = TINY.replace(diffusion_model=replace(TINY.diffusion_model, in_channels=9))

#: Names of one function of rows differ in its settings, and in the noise levels.
ONE_OF_EACH_KIND = {each.function: name for name, each in SAMPLERS.items()}.values()

every_backend = pytest.mark.every_backend
compiled = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="PyTorch runs eagerly: nothing is traced"
)


def paint(model, image=PICTURE, mask=MASK, prompt=APPLE, **options):
    options = {"seed": 1, "num_steps": 4, "progress_bar": False, **options}
    return model.inpaint(image, mask, prompt, **options)


def grow(model, image=PICTURE, prompt=APPLE, **options):
    options = {"seed": 1, "num_steps": 4, "progress_bar": False, **options}
    return model.outpaint(image, prompt, **options)


@pytest.fixture(scope="module")
def nine():
    """A model whose U-Net is told of the mask."""
    return tiny_model(config=NINE)


@pytest.fixture(scope="module")
def network():
    return lively_network(ControlNet, CONFIG)


@pytest.fixture(params=["blends", "is told"])
def either(request, tiny):
    return tiny if request.param == "blends" else request.getfixturevalue("nine")


class TestWhatStays:
    @every_backend
    def test_outside_the_mask_are_the_inputs_own_pixels(self, either):
        (found,) = paint(either)
        assert found.shape == PICTURE.shape and found.dtype == np.uint8
        assert (found[~WHITE] == PICTURE[~WHITE]).all()
        assert (found[WHITE] == PICTURE[WHITE]).mean() < 0.1

    def test_the_feather_reaches_its_width_and_no_farther(self, tiny):
        (sharp,), (soft,) = paint(tiny), paint(tiny, feather=3)
        assert (sharp[WHITE] == soft[WHITE]).all()
        near = np.zeros_like(WHITE)
        near[3:23, 7:32] = True
        assert (soft[~near] == PICTURE[~near]).all()
        edge = near & ~WHITE
        assert (soft[edge] == PICTURE[edge]).mean() < 0.5
        # A row's pixels go from the old to the new in even steps.
        (seen,) = tiny.decode_all(_last(tiny, paint).latents).astype(float)
        for distance, part in ((1, 0.75), (2, 0.5), (3, 0.25)):
            expected = part * seen[12, 10 - distance]
            expected += (1 - part) * PICTURE[12, 10 - distance]
            assert soft[12, 10 - distance] == pytest.approx(expected, abs=0.51)

    @pytest.mark.parametrize("sampler", quick(SAMPLERS, *ONE_OF_EACH_KIND))
    def test_every_sampler_ends_with_the_known_latents(self, tiny, sampler):
        known = encode_pictures(tiny, [PICTURE])
        latents = _last(tiny, paint, sampler=sampler).latents
        white = WHITE[::2, ::2]
        assert (latents[0][~white] == known[0][~white]).all()
        assert np.abs(latents - known)[0][white].mean() > 0.1

    @pytest.mark.parametrize("sampler", ["euler_ancestral", "heun", "dpmpp_2m_karras"])
    def test_on_the_way_they_are_as_noisy_as_the_others(self, tiny, sampler):
        known, noise = encode_pictures(tiny, [PICTURE]), initial_noise([1], (16, 16, 4))
        black, steps = ~WHITE[::2, ::2], []
        paint(tiny, sampler=sampler, callback=steps.append)
        assert len(steps) == 4 and steps[0].sigma > 1.0
        for step in steps:
            found = keras.ops.convert_to_numpy(step.state)[0][black]
            expected = (known + np.float32(step.sigma) * noise)[0][black]
            assert found == pytest.approx(expected, abs=1e-5)

    def test_a_size_that_is_no_multiple(self, nine):
        picture, mask = PICTURE[:29, :19], MASK[:29, :19]
        (found,) = paint(nine, picture, mask)
        assert found.shape == (29, 19, 3)
        assert (found[mask == 0] == picture[mask == 0]).all()


class TestMasks:
    def test_all_white_is_text_to_image(self, tiny):
        options = {"seed": 1, "num_steps": 4, "progress_bar": False}
        expected = tiny.text_to_image(APPLE, **options)
        assert (paint(tiny, mask=np.ones((32, 32))) == expected).all()

    @pytest.mark.parametrize("share", [0.4, 0.7])
    def test_grey_is_painted_with_that_strength(self, tiny, share):
        """As image-to-image, where a sampler remembers nothing."""
        options = {"num_steps": 10, "sampler": "euler"}
        grey = np.full((32, 32), share)
        found = _last(tiny, paint, mask=grey, **options).latents
        steps = []
        tiny.image_to_image(
            PICTURE, APPLE, seed=1, strength=share, callback=steps.append, **options
        )
        assert found == pytest.approx(steps[-1].latents, abs=1e-4)

    def test_grey_is_laid_over_the_picture_by_that_opacity(self, tiny):
        grey = np.where(WHITE, 0.6, 0.0)
        latents = _last(tiny, paint, mask=grey).latents
        (found,), (seen,) = paint(tiny, mask=grey), tiny.decode_all(latents)
        mixed = 0.6 * seen.astype(float) + 0.4 * PICTURE
        assert found[WHITE] == pytest.approx(mixed[WHITE], abs=0.51)

    @pytest.mark.parametrize("strength", [0.0, 0.2])
    def test_no_strength_gives_what_the_autoencoder_sees(self, either, strength):
        (found,) = paint(either, strength=strength).astype(int)
        seen = either.decode_all(encode_pictures(either, [PICTURE]))[0]
        assert np.abs(found - seen)[WHITE].max() <= 1
        assert (found[~WHITE] == PICTURE[~WHITE]).all()

    @pytest.mark.every_backend_at_length
    def test_one_for_all_or_one_for_each_picture(self, either):
        prompts, other = [APPLE, "two cats"], MASK[::-1]
        two = paint(either, mask=[MASK, other], prompt=prompts)
        for found, mask in zip(two, (MASK, other), strict=True):
            assert (found[mask == 0] == PICTURE[mask == 0]).all()
        (alone,) = paint(either, mask=other, prompt="two cats", seed=2)
        assert np.abs(two[1].astype(int) - alone).max() <= 1
        pictures = [PICTURE, PICTURE[::-1]]
        for found, picture in zip(
            paint(either, pictures, prompt=prompts), pictures, strict=True
        ):
            assert (found[~WHITE] == picture[~WHITE]).all()

    def test_any_picture_will_do(self, tiny, tmp_path):
        expected = paint(tiny)
        Image.fromarray(MASK).save(tmp_path / "mask.png")
        for mask in (tmp_path / "mask.png", Image.fromarray(MASK), WHITE, WHITE / 1.0):
            assert (paint(tiny, mask=mask) == expected).all()


class TestPadding:
    @pytest.mark.parametrize("padding", [0, 5, 200])
    def test_the_surroundings_are_painted_at_the_models_size(self, either, padding):
        mask = np.zeros((90, 75), bool)
        mask[10:22, 50:70] = True
        step = _last(either, paint, LARGE, mask, padding=padding)
        assert step.latents.shape == (1, 16, 16, 4)
        (found,) = paint(either, LARGE, mask, padding=padding, feather=2)
        near = np.zeros_like(mask)
        near[8:24, 48:72] = True
        assert (found[~near] == LARGE[~near]).all()
        assert (found[mask] == LARGE[mask]).mean() < 0.1

    def test_each_mask_has_its_surroundings(self, tiny):
        masks = np.zeros((2, 90, 75), bool)
        masks[0, :9, :30], masks[1, 60:, 70:] = True, True
        prompts = [APPLE, "two cats"]
        found = paint(tiny, LARGE, list(masks), prompts, padding=3, batch_size=2)
        assert (found[0] != found[1]).any()
        for i, mask in enumerate(np.repeat(masks, 2, axis=0)):
            assert (found[i][~mask] == LARGE[~mask]).all()
            assert (found[i][mask] == LARGE[mask]).mean() < 0.1


class TestControl:
    """What is followed is cut as the picture is."""

    @pytest.mark.every_backend_at_length
    def test_a_picture_of_the_inputs_own_size(self, nine, network):
        picture, mask, edges = PICTURE[:29, :19], MASK[:29, :19], LARGE[:29, :19]
        plain, found = (
            _last(nine, paint, picture, mask, control=Control(network, edges, scale))
            for scale in (0.0, 1.0)
        )
        assert found.latents.shape == (1, 15, 10, 4)
        assert np.abs(found.latents - plain.latents).mean() > 0.05

    def test_padding_scales_the_surroundings(self, either, network):
        mask = np.zeros((90, 75), bool)
        mask[10:22, 50:70] = True
        edges, box = LARGE[::-1], Box(6, 26, 50, 70)
        near = [enlarged(each, box, (32, 32)) for each in (LARGE, mask * 1.0, edges)]
        control = Control(network, near.pop())
        expected = _last(either, paint, *near, control=control).latents
        control = Control(network, edges)
        found = _last(either, paint, LARGE, mask, padding=0, control=control).latents
        assert found == pytest.approx(expected, abs=1e-5)

    def test_each_mask_has_its_surroundings(self, tiny, network):
        masks, prompts = np.zeros((2, 90, 75), bool), [APPLE, "two cats"]
        masks[0, :20, :20], masks[1, 70:, 55:] = True, True
        options = {"padding": 0, "control": Control(network, LARGE)}
        four = _last(tiny, paint, LARGE, list(masks), prompts, batch_size=2, **options)
        for i in (1, 2):
            call = {"mask": masks[i // 2], "prompt": prompts[i // 2], "seed": 1 + i}
            (alone,) = _last(tiny, paint, LARGE, **call, **options).latents
            assert four.latents[i] == pytest.approx(alone, abs=1e-3)

    def test_windows_follow_their_parts(self, tiny, network):
        """One at the right; then one at the left, which begins a pixel early."""
        edges, half = LARGE[:32, :48], np.zeros((32, 32), bool)
        half[:, 16:] = True
        filled = np.pad(PICTURE[:, 16:], [(0, 0), (0, 16), (0, 0)], mode="edge")
        control = Control(network, edges[:, 16:])
        (expected,) = paint(tiny, filled, half, control=control)
        traces = dict(tiny.traces)
        (found,) = grow(tiny, right=16, control=Control(network, edges))
        assert (found[:, 16:] == expected).all()
        filled = np.pad(PICTURE[:, :16], [(0, 0), (16, 0), (0, 0)], mode="edge")
        control = Control(
            network, np.pad(edges[:, :31], [(0, 0), (1, 0), (0, 0)], "edge")
        )
        (expected,) = paint(tiny, filled, half[:, ::-1], control=control)
        (found,) = grow(tiny, left=15, control=Control(network, edges[:, :47]))
        assert (found[:, :31] == expected[:, 1:]).all()
        assert tiny.traces == traces


@compiled
def test_nothing_but_a_size_compiles_anew(either):
    model = either
    paint(model)
    traces = dict(model.traces)
    assert set(traces) >= {"encode", "encode_image", "denoise", "decode"}
    paint(model, PICTURE[::-1], MASK[::-1], "two cats", strength=0.7, num_steps=7)
    paint(model, mask=np.full((32, 32), 0.3), seed=9, sampler="heun", feather=4)
    paint(model, sampler="euler_ancestral", unconditional_guidance_scale=3.0)
    paint(model, LARGE, np.eye(90, 75), padding=3)
    grow(model, left=40, bottom=3, strength=0.8)
    grow(model, LARGE, right=16)
    assert model.traces == traces


class TestBadInput:
    @pytest.fixture
    def unbuilt(self):
        """A model of which nothing may be built."""
        model = StableDiffusion(config=TINY, weights=None)
        yield model
        assert not model._parts and not model._programs

    @pytest.mark.parametrize(
        "arguments, error, message",
        [
            ({"mask": MASK[:20]}, ValueError, r"\(32, 32\). Received: \(20, 32\)"),
            ({"mask": 0 * MASK}, ValueError, "Received: a mask that is black every"),
            ({"mask": [MASK] * 3}, ValueError, "of the 1 prompts. Received: 3 masks"),
            ({"mask": None}, TypeError, "`inpaint` must have `mask`"),
            ({"image": PICTURE[:1, :1]}, ValueError, "16 to 8192.*height=1, width=1"),
            ({"strength": 1.1}, ValueError, "`strength` must be from 0 to 1.*: 1.1"),
            ({"strength": -0.1}, ValueError, "`strength` must be from 0 to 1.*: -0.1"),
            ({"feather": -1}, ValueError, "pixels from 0 to 512. Received: -1"),
            ({"feather": 1.5}, TypeError, "`feather` must be a whole number.*: 1.5"),
            ({"padding": -1}, ValueError, "pixels from 0 to 8192. Received: -1"),
            ({"num_steps": 0}, ValueError, "from 1 to 1000. Received: 0"),
            ({"prompt": 5}, TypeError, "`prompt` must be a string"),
            ({"refiner": "sdxl-refiner"}, ValueError, "`inpaint` takes no `refiner`"),
            (
                {"control": Control(wide(), LARGE), "padding": 3},
                ValueError,
                r"width, \(32, 32\). Received: \(90, 75\)",
            ),
            ({"paddding": 1}, TypeError, "Did you mean padding.*: 'paddding'"),
        ],
    )
    def test_of_inpaint(self, unbuilt, arguments, error, message):
        with pytest.raises(error, match=message):
            paint(unbuilt, **arguments)

    @pytest.mark.parametrize(
        "arguments, error, message",
        [
            ({}, ValueError, "must be 1 or more. Received: 0 for all"),
            ({"left": -8}, ValueError, "`left` must be.*from 0 to 8192. Received: -8"),
            ({"top": 0.5}, TypeError, "`top` must be a whole number.*: 0.5"),
            ({"right": True}, TypeError, "`right` must be a whole number.*: True"),
            ({"bottom": 8192}, ValueError, "Received: height=8224, width=32"),
            ({"left": 8, "overlap": 32}, ValueError, "from 1 to 31. Received: 32"),
            ({"left": 8, "strength": 2}, ValueError, "`strength` must be from 0 to 1"),
            ({"left": 8, "feather": 600}, ValueError, "0 to 512. Received: 600"),
            (
                {"left": 7, "control": Control(wide(), PICTURE)},
                ValueError,
                r"width, \(32, 39\). Received: \(32, 32\)",
            ),
            ({"left": 8, "refiner": "x"}, ValueError, "`outpaint` takes no `refiner`"),
        ],
    )
    def test_of_outpaint(self, unbuilt, arguments, error, message):
        with pytest.raises(error, match=message):
            grow(unbuilt, **arguments)

    @pytest.mark.parametrize("content", [b"no picture", bomb(20000, 20000)])
    def test_files_that_are_no_pictures(self, unbuilt, content, tmp_path):
        path = tmp_path / "picture.png"
        path.write_bytes(content)
        rule = "16 to 8192 pixels|that Pillow reads"
        for call in (
            lambda: paint(unbuilt, path),
            lambda: paint(unbuilt, mask=path),
            lambda: grow(unbuilt, path, left=8),
        ):
            with pytest.raises(ValueError, match=rule):
                call()

    def test_a_unet_of_other_channels(self):
        network = replace(TINY.diffusion_model, in_channels=5)
        config = TINY.replace(diffusion_model=network)
        model = StableDiffusion(config=config, weights=None)
        for task, options in ((paint, {}), (grow, {"left": 8})):
            with pytest.raises(ValueError, match="4 channels, or of 9.*Received: 5"):
                task(model, **options)


@pytest.fixture(scope="module")
def bundled():
    return StableDiffusion.from_preset("emoji")


@pytest.mark.heavy  # of the tiny model: `test_image_to_image`
def test_image_to_image_goes_farther_with_strength(bundled):
    options = {"num_steps": 10, "seed": 1, "progress_bar": False}
    (picture,) = bundled.text_to_image("a red apple on a blue background", **options)
    distances = []
    for strength in (0.0, 0.4, 0.7, 1.0):
        found = bundled.image_to_image(
            picture, "a dog on a yellow background", strength=strength, **options
        )
        distances.append(np.abs(found.astype(float) - picture).mean())
    assert distances == sorted(distances) and distances[-1] > 4 * distances[0]


def _last(model, task, *arguments, **options):
    """The last step of a task."""
    steps = []
    task(model, *arguments, callback=steps.append, **options)
    return steps[-1]

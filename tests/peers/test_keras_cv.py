"""keras-cv 0.9.0's networks and weights files beside ours.

Where KerasCV departs from the original (CompVis), we follow the original. Its networks
depart in these points and no others: with them undone in its own classes, every output
agrees to 1e-4, at a tenth of the width (below) and at full size (`full_size`).

| departure | original | KerasCV |
| --- | --- | --- |
| epsilon of the group norm of the U-Net's transformers | 1e-6 | 1e-5 |
| GELU of the U-Net's gated perceptrons | exact (erf) | tanh approximation |
| epsilon of all group norms of the autoencoder | 1e-6 | 1e-5 |

The text encoder defines the same function.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

from kerasdiffusion.models.autoencoder import Decoder, ImageEncoder
from kerasdiffusion.models.diffusion_model import DiffusionModel
from kerasdiffusion.models.text_encoder import TextEncoder
from kerasdiffusion.weights import WeightsError
from kerasdiffusion.weights.keras_cv import find
from kerasdiffusion.weights.layout import KERAS_CV, PARTS
from kerasdiffusion.weights.load import load_weights, read_config

keras_cv = pytest.importorskip("keras_cv")

from keras_cv.src.models.stable_diffusion import diffusion_model  # noqa: E402

from tests.peers import small_keras_cv as small  # noqa: E402

CONFIG = small.CONFIG


def ours(part, config=CONFIG):
    if part == "text_encoder":
        return TextEncoder(config.text_encoder)
    if part == "diffusion_model":
        return DiffusionModel(config.diffusion_model)
    network = ImageEncoder if part == "image_encoder" else Decoder
    return network(config.autoencoder)


def difference(found, expected):
    """Largest difference relative to the largest value."""
    found, expected = np.asarray(found), np.asarray(expected)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="module")
def theirs():
    """KerasCV's small networks with random weights."""
    models = {part: make() for part, make in small.build().items()}
    for model in models.values():
        small.randomise(model)
    return models


@pytest.fixture(scope="module")
def keras_3(theirs, tmp_path_factory):
    """A folder of the files that these networks save."""
    folder = tmp_path_factory.mktemp("keras3")
    for part, model in theirs.items():
        model.save_weights(folder / f"{part}.weights.h5")
    return folder


@pytest.fixture(scope="module")
def keras_2(tmp_path_factory):
    """A folder of the same weights as Keras 2 saves them, by the published names."""
    folder = tmp_path_factory.mktemp("keras2")
    done = subprocess.run(
        [sys.executable, "-m", "tests.peers.small_keras_cv", str(folder)],
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1", "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for part, name in KERAS_CV.items():
        (folder / f"{part}.h5").rename(folder / name)
    return folder


@pytest.fixture(params=["keras_3", "keras_2"])
def folder(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("part", PARTS)
def test_computes_the_same_with_the_weights_of_keras_cv(
    theirs, folder, part, monkeypatch
):
    monkeypatch.setattr(diffusion_model.GEGLU, "call", small.exact_gelu)
    small.as_the_original(theirs[part])
    network = ours(part)
    load_weights({part: network}, folder)
    inputs = small.inputs(part, CONFIG, 64)
    found = network(inputs["ours"])
    assert difference(found, theirs[part](inputs["theirs"])) < 1e-4


def test_detects_the_geometry_from_the_files(folder):
    assert read_config(folder) == CONFIG


def test_takes_files_by_part(keras_3):
    files = find(keras_3)
    network = ours("decoder")
    load_weights({"decoder": network}, {"decoder": files["decoder"]})
    assert read_config(files) == CONFIG


def test_refuses_the_file_of_another_part_and_changes_nothing(keras_3):
    network = ours("decoder")
    before = [np.array(variable) for variable in network.weights]
    with pytest.raises(WeightsError, match=r"nothing was loaded.* missing"):
        load_weights(
            {"decoder": network}, {"decoder": keras_3 / "image_encoder.weights.h5"}
        )
    for variable, value in zip(network.weights, before, strict=True):
        np.testing.assert_array_equal(np.array(variable), value)


def test_asks_for_all_parts_where_one_file_is_one_part(keras_3):
    with pytest.raises(WeightsError, match="holds one part of a model"):
        read_config(keras_3 / "decoder.weights.h5")

"""Mutated files of configurations: read as their reference reads them, or refused."""

import json
import math

import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from kerasdiffusion.presets.config import ModelConfig  # noqa: E402
from kerasdiffusion.presets.families import SDXL  # noqa: E402
from kerasdiffusion.weights import WeightsError  # noqa: E402
from kerasdiffusion.weights.configs import (  # noqa: E402
    text_encoder_from_json,
    text_encoder_to_json,
    vae_from_json,
    vae_to_json,
)
from kerasdiffusion.weights.folders import dataclass_from  # noqa: E402
from kerasdiffusion.weights.schedule_json import (  # noqa: E402
    schedule_from_json,
    schedule_to_json,
)
from kerasdiffusion.weights.schedulers import sampling_of  # noqa: E402
from kerasdiffusion.weights.unet_json import unet_from_json, unet_to_json  # noqa: E402

READERS = {
    "unet": (unet_from_json, unet_to_json(SDXL.diffusion_model, 128)),
    "vae": (vae_from_json, vae_to_json(SDXL.autoencoder)),
    "text": (text_encoder_from_json, text_encoder_to_json(SDXL.text_encoder_2)),
    "noise": (schedule_from_json, schedule_to_json(SDXL.schedule, "leading")),
    "sampler": (
        lambda values, where: sampling_of(values, where, True),
        schedule_to_json(SDXL.schedule, "leading"),
    ),
}
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["linear", "epsilon", "v_prediction", "trailing", "gelu"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner)
    ),
    max_leaves=8,
)


@pytest.mark.filterwarnings("ignore:The folder's scheduler")
@pytest.mark.parametrize("name", READERS)
@settings(max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_one_field_changed(name, data):
    read, values = READERS[name]
    if name == "sampler":  # which is read after the noise, whose class it is
        fields = sorted(set(values) - {"_class_name"})
    else:
        fields = sorted(values)
    field = data.draw(st.sampled_from(fields))
    value = data.draw(ODD)
    try:
        found = read({**values, field: value}, "some/file")
    except WeightsError as error:
        assert "Received" in str(error) and len(str(error)) < 2000
        return
    if isinstance(value, float) and not math.isfinite(value):
        # What is no number is passed over where nothing here reads it.
        assert "nan" not in repr(found) and "inf" not in repr(found)


@settings(max_examples=150, deadline=2000)
@given(data=st.data())
def test_our_own_metadata(data):
    import dataclasses

    values = json.loads(json.dumps(dataclasses.asdict(SDXL)))
    part = data.draw(st.sampled_from(sorted(values)))
    inside = values[part]
    if isinstance(inside, dict):
        inside[data.draw(st.sampled_from(sorted(inside)))] = data.draw(ODD)
    else:
        values[part] = data.draw(ODD)
    try:
        found = dataclass_from(ModelConfig, values, "some/file")
    except WeightsError as error:
        assert "Received" in str(error) and len(str(error)) < 2000
        return
    assert "nan" not in repr(found) and "inf" not in repr(found)


def test_an_id_is_a_whole_number():
    with pytest.raises(WeightsError, match="'end_id' must be like None. Received: "):
        dataclass_from(ModelConfig, {"text_encoder": {"end_id": [1]}}, "a file")

"""What actors have of the driver's environment, and who else sees it."""

import os
import pickle

from kerasdiffusion.batch import environment

TOLD = {
    "KERAS_BACKEND": "jax",
    "HF_HOME": "/shared/hub",
    "HF_TOKEN_PATH": "/shared/token",
    "HF_TOKEN": "hf_secret",
    "HUGGING_FACE_HUB_TOKEN": "hf_secret",
    "KERASDIFFUSION_API_KEY": "secret",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "OTHER_TOKEN": "secret",
}


def test_what_opens_a_door_is_shown_nowhere(monkeypatch):
    for name in list(os.environ):
        if environment.SHOWN.fullmatch(name) or environment.HIDDEN.fullmatch(name):
            monkeypatch.delenv(name)
    for name, value in TOLD.items():
        monkeypatch.setenv(name, value)
    assert set(environment.shown()) == {"KERAS_BACKEND", "HF_HOME"}
    hidden = environment.WithHidden(dict)
    assert "secret" not in f"{hidden!r} {hidden}"
    sent = pickle.dumps(hidden)
    for name in TOLD:
        monkeypatch.delenv(name)
    assert pickle.loads(sent)() == {}
    assert os.environ["HF_TOKEN"] == "hf_secret"
    assert os.environ["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert "OTHER_TOKEN" not in os.environ
    monkeypatch.setenv("HF_TOKEN", "own")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "own")
    monkeypatch.setenv("AWS_CA_BUNDLE", "own")
    pickle.loads(sent)()
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "secret"
    assert os.environ["AWS_ENDPOINT_URL"] == "own"
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_PROFILE", "own")
    pickle.loads(sent)()
    assert "AWS_SECRET_ACCESS_KEY" not in os.environ and os.environ["HF_TOKEN"] == "own"

"""Which models and adapters may be named, and which stay in memory."""

import os
from types import SimpleNamespace

import pytest

from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.models import Models


class Variable:
    shape, dtype = (1000,), "float32"


def fake(source):
    part = SimpleNamespace(variables=[Variable()])
    return SimpleNamespace(source=source, _parts={"diffusion_model": part})


@pytest.fixture
def folder(tmp_path):
    for name in ("models", "adapters", "outside"):
        (tmp_path / name).mkdir()
    (tmp_path / "models/one.safetensors").touch()
    (tmp_path / "models/two").mkdir()
    (tmp_path / "models/two/model_index.json").touch()
    (tmp_path / "models/notes.txt").touch()
    (tmp_path / "adapters/deep").mkdir()
    (tmp_path / "adapters/deep/detail.safetensors").touch()
    (tmp_path / "outside/secret.safetensors").touch()
    return tmp_path


@pytest.fixture
def models(folder):
    return Models(("emoji",), folder / "models", folder / "adapters", make=fake)


def test_files_and_folders_are_models_by_their_names(models):
    assert list(models.names()) == ["emoji", "one", "two"]
    assert models.find(None) == models.find("") == "emoji"
    for name in ("one", "one.safetensors", "one.safetensors [abc123]", "one [abc]"):
        assert models.find(name) == "one"
    assert models.adapter("detail").endswith("adapters/deep/detail.safetensors")


@pytest.mark.parametrize(
    "name",
    [
        "../outside/secret",
        "../outside/secret.safetensors",
        "/etc/passwd",
        "one/../../outside/secret",
        "hf://owner/name",
        "sd1.5",
        "~/one",
        "on\0e",
        "..",
        "a" * 10**5,
    ],
)
def test_no_name_leads_out_of_the_folders(models, name):
    for find in (models.find, models.adapter, models.control):
        with pytest.raises(Refused, match="must be one that this server has") as error:
            find(name)
        assert error.value.status == 404 and len(error.value.message) < 500


def test_absolute_paths_are_no_names_either(models, folder):
    with pytest.raises(Refused):
        models.find(str(folder / "models/one.safetensors"))


def test_links_that_lead_out_are_not_followed(models, folder):
    outside = folder / "outside"
    (folder / "models/link.safetensors").symlink_to(outside / "secret.safetensors")
    (folder / "adapters/link").symlink_to(outside)
    (folder / "adapters/link.safetensors").symlink_to(outside / "secret.safetensors")
    (folder / "models/broken.safetensors").symlink_to(folder / "nothing")
    (folder / "models/again.safetensors").symlink_to(folder / "models/one.safetensors")
    assert list(models.names()) == ["emoji", "again", "one", "two"]
    assert list(models.adapter_files()) == ["detail"]


def test_a_near_name_is_said(models):
    with pytest.raises(Refused, match="Did you mean two"):
        models.find("twoo")


def test_the_one_that_was_used_the_longest_ago_makes_room(folder):
    models = Models(("emoji",), folder / "models", most_bytes=9000, make=fake)
    for name in ("emoji", "one"):
        models.use(name)
        models.used(name)
    assert list(models.loaded()) == ["emoji", "one"]
    models.use("emoji")
    models.use("two")
    models.used("two")
    assert list(models.loaded()) == ["emoji", "two"]


def test_what_a_file_has_is_made_room_for_ahead_of_reading_it(folder):
    os.truncate(folder / "models/one.safetensors", 9000)
    models = Models(("emoji",), folder / "models", most_bytes=10000, make=fake)
    models.use("emoji")
    models.used("emoji")
    models.use("one")
    assert list(models.loaded()) == ["one"]


def test_messages_do_not_say_where_folders_are(models, folder):
    text = models.without_places(f"No such thing. Received: {folder}/adapters/x.bin")
    assert text == "No such thing. Received: x.bin"

"""`generate --from` and `show` with pictures of other programs."""

import json

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from kerasdiffusion.apps.cli import main
from tests.pictures.test_comfy_parameters import graph, node
from tests.pictures.test_other_programs import INVOKE, NOVEL, SWARM


def written(path, **chunks):
    info = PngImagePlugin.PngInfo()
    for name, text in chunks.items():
        info.add_itxt(name, text)
    Image.fromarray(np.zeros((16, 16, 3), "uint8")).save(path, pnginfo=info)
    return str(path)


def test_a_request_of_swarmui(generate, calls, capsys):
    path = written("a.png", parameters=json.dumps(SWARM))
    assert generate("--from", path, "--quiet") == 0
    ((_, task, keywords),) = calls
    assert task == "text_to_image" and keywords["prompt"] == ("a cat",)
    assert keywords["negative_prompt"] == "blurry" and keywords["num_steps"] == 20
    assert keywords["sampler"] == "dpmpp_2m" and keywords["spacing"] == "karras"
    assert keywords["rng"] == "comfy" and keywords["clip_skip"] == 2
    said = capsys.readouterr().err
    assert "'freeu_applied' of a.png is not followed" in said
    assert "the model 'sd15' of a.png is not followed" in said


def test_a_request_of_invokeai(generate, calls):
    path = written("a.png", invokeai_metadata=json.dumps(INVOKE))
    assert generate("--from", path, "--quiet") == 0
    keywords = calls[0][-1]
    assert keywords["prompt_weighting"] == "compel" and keywords["rng"] == "torch"


def test_a_language_of_prompts_is_translated(generate, calls, capsys):
    comment = NOVEL | {"prompt": "{a cat}", "sampler": "k_euler"}
    path = written("a.png", Software="NovelAI", Comment=json.dumps(comment))
    assert generate("--from", path, "--quiet") == 0
    assert "(a cat:1.05)" in str(calls[0])
    assert "'the noise of NovelAI' of a.png is not followed" in capsys.readouterr().err


def test_a_prompt_that_was_not_understood_is_asked_for(generate, capsys):
    text = graph({"positive": ["10", 0]}, _10=node("Mine", x=1))
    path = written("a.png", prompt=text)
    with pytest.raises(SystemExit):
        generate("--from", path)
    said = capsys.readouterr().err
    assert "required: PROMPT" in said and "'Mine 10' of a.png is not followed" in said


def test_an_unknown_sampler_is_refused_until_one_is_given(generate, calls, capsys):
    values = SWARM["sui_image_params"] | {"sampler": "res_multistep_cfg_pp"}
    path = written("a.png", parameters=json.dumps({"sui_image_params": values}))
    assert generate("--from", path, "--quiet") == 1
    assert "Received: 'res_multistep_cfg_pp'" in capsys.readouterr().err
    assert generate("--from", path, "--sampler", "euler", "--quiet") == 0
    assert calls[0][-1]["sampler"] == "euler"


def test_models_that_a_picture_names_are_not_fetched_unasked(
    generate, calls, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    path = written("a.png", parameters="x\nSteps: 2, Seed: 1, Model: sd1.5")
    assert generate("--from", path, "--quiet") == 1
    said = capsys.readouterr().err
    assert "add --fetch for preset 'sd1.5' (hf://" in said and said.count("\n") == 1
    assert not calls
    assert generate("--from", path, "--preset", "emoji", "--quiet") == 0
    assert calls, "a model that was named is no question"


def test_show_goes_on_and_obeys_no_control_characters(tmp_path, capsys):
    bad = written(tmp_path / "bad.png", parameters='{"a":' * 300 + "1" + "}" * 300)
    good = written(tmp_path / "a.png", parameters="a\x1b[2J cat\nSteps: 1, Seed: 2")
    assert main(["show", bad, str(tmp_path), good]) == 1
    captured = capsys.readouterr()
    assert "prompt: a\\x1b[2J cat" in captured.out and "seed: 2" in captured.out
    errors = captured.err.splitlines()
    assert len(errors) == 2 and all(len(line) < 500 for line in errors)

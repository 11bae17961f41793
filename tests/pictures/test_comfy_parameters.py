"""ComfyUI's graphs: followed where a node is known, named where it is not."""

import copy
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from kerasdiffusion.pictures.comfy_nodes import NODES
from kerasdiffusion.pictures.comfy_parameters import parse_graph


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


PLAIN = {
    "3": node(
        "KSampler",
        seed=5,
        steps=20,
        cfg=8.0,
        sampler_name="euler",
        scheduler="normal",
        denoise=1.0,
        model=["4", 0],
        positive=["6", 0],
        negative=["7", 0],
        latent_image=["5", 0],
    ),
    "4": node("CheckpointLoaderSimple", ckpt_name="sd15.safetensors"),
    "5": node("EmptyLatentImage", width=512, height=768, batch_size=1),
    "6": node("CLIPTextEncode", text="a white horse", clip=["4", 1]),
    "7": node("CLIPTextEncode", text="human", clip=["4", 1]),
    "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
    "9": node("SaveImage", images=["8", 0], filename_prefix="x"),
}
READ = {
    "prompt": "a white horse",
    "negative_prompt": "human",
    "seed": 5,
    "steps": 20,
    "guidance_scale": 8.0,
    "sampler": "euler",
    "schedule_type": "normal",
    "width": 512,
    "height": 768,
    "model": "sd15.safetensors",
    "version": "ComfyUI",
}


def graph(sampler=None, **nodes):
    """The plain graph with other inputs of its sampler, and other nodes."""
    new = copy.deepcopy(PLAIN)
    new["3"]["inputs"] |= sampler or {}
    return json.dumps(new | {name.strip("_"): each for name, each in nodes.items()})


#: Kinds that paint nothing themselves.
OTHERS = ["Other", *(name for name in NODES if NODES[name].role != "sampler")]


def named(found):
    return sorted(set(found) - set(READ))


def test_the_plain_graph_is_read_whole_and_names_nothing():
    assert parse_graph(graph()) == READ


BOTH = {"positive": ["6", 0], "negative": ["7", 0]}


@pytest.mark.parametrize(
    "between",
    [
        node("ControlNetApplyAdvanced", strength=1.0, **BOTH),
        node("InpaintModelConditioning", pixels=["8", 0], **BOTH),
        node("InstructPixToPixConditioning", pixels=["8", 0], **BOTH),
        node("ACN_AdvancedControlNetApply", **BOTH),
    ],
    ids=lambda each: each["class_type"],
)
def test_of_a_node_that_has_both_prompts_the_outputs_number_counts(between):
    found = parse_graph(
        graph({"positive": ["10", 0], "negative": ["10", 1]}, _10=between)
    )
    assert {name: found[name] for name in READ} == READ
    assert named(found) == [f"{between['class_type']} 10"]
    turned = graph({"positive": ["10", 1], "negative": ["10", 0]}, _10=between)
    assert parse_graph(turned)["prompt"] == "human"


def test_an_unknown_node_is_not_guessed_through():
    unknown = node("MyOwnConditioner", **BOTH, text="x")
    found = parse_graph(graph({"positive": ["10", 0]}, _10=unknown))
    assert found["prompt"] == "" and found["negative_prompt"] == "human"
    assert named(found) == [
        "CLIPTextEncode 6",
        "MyOwnConditioner 10",
        "prompt by an unknown node",
    ]


def test_linked_texts_and_seeds_are_followed():
    found = parse_graph(
        graph(
            {"seed": ["11", 0], "cfg": ["12", 0]},
            _6=node("CLIPTextEncode", text=["10", 0], clip=["4", 1]),
            _10=node("PrimitiveStringMultiline", value="a linked horse"),
            _11=node("Seed (rgthree)", seed=99),
            _12=node("PrimitiveFloat", value=3.5),
        )
    )
    assert (found["prompt"], found["seed"]) == ("a linked horse", 99)
    assert found["guidance_scale"] == 3.5 and named(found) == []
    found = parse_graph(
        graph(
            {"seed": ["11", 0]},
            _6=node("CLIPTextEncode", text=["10", 0], clip=["4", 1]),
            _10=node("SDXLPromptStyler", text_positive="a", style="b"),
            _11=node("SomeSeeds", x=1),
        )
    )
    assert found["prompt"] == "" and "seed" not in found, (
        "what is made there is unknown"
    )
    assert {"SDXLPromptStyler 10", "SomeSeeds 11"} <= set(found)


def test_turbos_workflow():
    turbo = {name: each for name, each in PLAIN.items() if name not in ("3",)} | {
        "3": node(
            "SamplerCustom",
            add_noise=True,
            noise_seed=5,
            cfg=1.0,
            model=["4", 0],
            sampler=["14", 0],
            sigmas=["22", 0],
            latent_image=["5", 0],
            **BOTH,
        ),
        "14": node("KSamplerSelect", sampler_name="euler_ancestral"),
        "22": node("SDTurboScheduler", steps=2, denoise=1.0, model=["4", 0]),
    }
    found = parse_graph(json.dumps(turbo))
    assert found["Timesteps"] == "999,899" and found["sampler"] == "euler_ancestral"
    assert found["prompt"] == "a white horse" and found["negative_prompt"] == "human"
    assert named(found) == ["Timesteps"]


def test_a_guider_and_its_noise():
    custom = {name: each for name, each in PLAIN.items() if name != "3"} | {
        "3": node(
            "SamplerCustomAdvanced",
            noise=["30", 0],
            guider=["31", 0],
            sampler=["32", 0],
            sigmas=["33", 0],
            latent_image=["5", 0],
        ),
        "30": node("RandomNoise", noise_seed=5, control_after_generate="fixed"),
        "31": node("CFGGuider", cfg=8.0, model=["4", 0], **BOTH),
        "32": node("KSamplerSelect", sampler_name="euler"),
        "33": node(
            "BasicScheduler", scheduler="normal", steps=20, denoise=1.0, model=["4", 0]
        ),
    }
    assert parse_graph(json.dumps(custom)) == READ


def test_sdxls_text_nodes():
    sizes = {"width": 1024, "height": 768, "crop_w": 8, "crop_h": 4}
    sizes |= {"target_width": 512, "target_height": 768, "clip": ["4", 1]}
    one = node("CLIPTextEncodeSDXL", text_g="a horse", text_l="a horse", **sizes)
    found = parse_graph(graph(_6=one))
    assert found["prompt"] == "a horse" and found["Original size"] == "1024x768"
    assert found["Crop"] == "4,8" and found["Target size"] == "512x768"
    assert "Prompt 2" not in found
    two = node("CLIPTextEncodeSDXL", text_g="a style", text_l="a horse", **sizes)
    found = parse_graph(graph(_6=two))
    assert (found["prompt"], found["Prompt 2"]) == ("a horse", "a style")


def test_prompts_that_are_combined_are_a1111s():
    """ComfyUI takes the mean, A1111 a sum: halves are the same."""
    third = node("CLIPTextEncode", text="snow", clip=["4", 1])
    for kind, ends, expected in (
        (
            "ConditioningCombine",
            ("conditioning_1", "conditioning_2"),
            "a white horse :0.5 AND snow :0.5",
        ),
        (
            "ConditioningConcat",
            ("conditioning_to", "conditioning_from"),
            "a white horse BREAK snow",
        ),
    ):
        joined = node(kind, **{ends[0]: ["6", 0], ends[1]: ["10", 0]})
        found = parse_graph(graph({"positive": ["11", 0]}, _10=third, _11=joined))
        assert found["prompt"] == expected and named(found) == []


def test_a_loader_of_all_things():
    loader = node(
        "Efficient Loader",
        ckpt_name="x.safetensors",
        vae_name="Baked VAE",
        clip_skip=-2,
        lora_name="None",
        positive="a horse",
        negative="human",
        empty_latent_width=512,
        empty_latent_height=640,
        batch_size=1,
    )
    links = {"model": ["1", 0], "positive": ["1", 1], "negative": ["1", 2]}
    decode = node("VAEDecode", samples=["3", 0], vae=["1", 4])
    links |= {"latent_image": ["1", 3]}
    found = parse_graph(graph(links, _1=loader, _8=decode))
    assert found["prompt"] == "a horse" and found["negative_prompt"] == "human"
    assert (found["width"], found["height"]) == (512, 640)
    assert found["model"] == "x.safetensors"
    assert named(found) == ["Efficient Loader 1"], "clip_skip, which is not followed"


@pytest.mark.parametrize(
    ("more", "sampler", "names"),
    [
        (
            {
                "_10": node(
                    "LoraLoader", lora_name="x", strength_model=0.8, model=["4", 0]
                )
            },
            {"model": ["10", 0]},
            ["LoraLoader 10"],
        ),
        (
            {"_10": node("FreeU_V2", b1=1.3, model=["4", 0])},
            {"model": ["10", 0]},
            ["FreeU_V2 10"],
        ),
        (
            {
                "_10": node("VAELoader", vae_name="x"),
                "_8": node("VAEDecode", samples=["3", 0], vae=["10", 0]),
            },
            {},
            ["VAELoader 10"],
        ),
        (
            {
                "_10": node("ImageUpscaleWithModel", image=["8", 0]),
                "_9": node("SaveImage", images=["10", 0]),
            },
            {},
            ["ImageUpscaleWithModel 10"],
        ),
        (
            {"_5": node("EmptyLatentImage", width=512, height=768, batch_size=4)},
            {},
            ["EmptyLatentImage 5"],
        ),
        ({}, {"my_setting": 3}, ["KSampler 3"]),
        (
            {"_6": node("CLIPTextEncode", text="this AND that", clip=["4", 1])},
            {},
            ["6 AND"],
        ),
        ({"_10": node("Unconnected", x=1)}, {}, []),
    ],
)
def test_what_changes_a_picture_and_is_not_followed_is_named(more, sampler, names):
    found = parse_graph(graph(sampler, **more))
    assert named(found) == names
    assert found["model"] == "sd15.safetensors"


def test_of_several_samplers_the_first_is_read_and_the_others_named():
    second = node("KSampler", **(PLAIN["3"]["inputs"] | {"seed": 8, "denoise": 0.5}))
    second["inputs"]["latent_image"] = ["11", 0]
    found = parse_graph(
        graph(
            _2=second,
            _11=node("LatentUpscale", samples=["3", 0], width=1024, height=1536),
            _8=node("VAEDecode", samples=["2", 0], vae=["4", 2]),
        )
    )
    assert {name: found[name] for name in READ} == READ
    assert named(found) == ["KSampler 2", "LatentUpscale 11"]
    assert "seed: 8" in found["KSampler 2"]


def test_two_pictures_are_said_to_be_two():
    other = node("KSampler", **(PLAIN["3"]["inputs"] | {"seed": 8}))
    found = parse_graph(graph(_2=other, _12=node("PreviewImage", images=["2", 0])))
    assert "Several pictures" in found and "seed: 8" in found["KSampler 2"]


@pytest.mark.parametrize("text", ["[]", "{", '{"1": {"class_type": "Other"}}', "{}"])
def test_other_json_is_refused(text):
    with pytest.raises(ValueError, match="ComfyUI's graph must"):
        parse_graph(text)


def test_links_in_circles_and_diamonds_end():
    """A node that links to itself many times, or many that link twice to the next."""
    loop = graph(
        {"positive": ["10", 0]},
        _10=node(
            "ConditioningCombine", conditioning_1=["10", 0], conditioning_2=["10", 0]
        ),
    )
    deep = {
        f"_{i}": node(
            "ConditioningCombine",
            conditioning_1=[str(i + 1), 0],
            conditioning_2=[str(i + 1), 0],
        )
        for i in range(100, 3000)
    }
    wide = {"_10": node("Unknown", **{f"x{i}": ["10", i] for i in range(2000)})}
    models = {
        f"_{i}": node("LoraLoader", model=[str(i + 1), 0], clip=[str(i + 1), 1])
        for i in range(100, 3000)
    }
    started = time.perf_counter()
    for text in (
        loop,
        graph({"positive": ["100", 0]}, **deep),
        graph({"positive": ["10", 0], "model": ["10", 1]}, **wide),
        graph({"model": ["100", 0]}, **models),
    ):
        parse_graph(text)
    assert time.perf_counter() - started < 10


@settings(deadline=None, max_examples=300)
@given(some.data())
def test_a_changed_graph_reads_what_its_links_say_or_nothing(data):
    """Any link or value is another: prompts come from where the links lead, or not."""
    nodes = copy.deepcopy(PLAIN)
    name = data.draw(some.sampled_from(sorted(nodes)))
    inputs = nodes[name]["inputs"]
    key = data.draw(some.sampled_from(sorted(inputs)))
    inputs[key] = data.draw(
        some.none()
        | some.integers(-5, 5)
        | some.text(max_size=3)
        | some.lists(some.integers(0, 9).map(str) | some.integers(0, 3), max_size=3)
    )
    if data.draw(some.booleans()):
        nodes[name]["class_type"] = data.draw(some.sampled_from(OTHERS))
    try:
        found = parse_graph(json.dumps(nodes))
    except ValueError as error:
        assert "ComfyUI's graph must" in str(error)
        return
    touched = name in ("3", "6", "7")
    if not touched:
        assert found["prompt"] == "a white horse"
        assert found["negative_prompt"] == "human"
    # The positive text is nowhere the negative one, but by a link that says so.
    if found["prompt"] == "human":
        assert nodes["3"]["inputs"].get("positive") == ["7", 0]
    assert all(isinstance(value, (str, int, float)) for value in found.values())

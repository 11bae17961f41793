"""What has hurt other servers: refused with a clear error, soon, nothing of it done.

Each case states what is refused; none carries a payload.
"""

import base64
import io
import json
import socket
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tests.apps.server.conftest import call
from tests.apps.server.test_web_ui import SHORT, noise, picture_of

HERE = Path(__file__).parents[3]
#: Seconds within which a refusal must be there; far more than it takes.
SOON = 20.0
PAINT = {"task": "text_to_image", "prompt": "a cat", "num_steps": 2, "seed": 1}


def text_of(image, kind="PNG", **how):
    out = io.BytesIO()
    image.save(out, kind, **how)
    return base64.b64encode(out.getvalue()).decode()


def huge_png(width, height):
    """A PNG that says it has so many pixels, and holds next to none of them."""

    def chunk(name, content):
        checked = name + content
        length = struct.pack(">I", len(content))
        return length + checked + struct.pack(">I", zlib.crc32(checked))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    content = b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")
    return base64.b64encode(content).decode()


@pytest.fixture
def refused(ask):
    """Asks for what must be refused, and looks at how."""

    def asking(path, values, status=422, **headers):
        began = time.monotonic()
        answer = ask("POST", path, values, **headers)
        assert time.monotonic() - began < SOON
        assert answer.status == status, answer.body
        text = json.dumps(answer.body)
        assert "Traceback" not in text and str(HERE) not in text and len(text) < 3000
        return text

    return asking


PLACES = {
    "/sdapi/v1/img2img": lambda text: {"init_images": [text], **SHORT},
    "/sdapi/v1/png-info": lambda text: {"image": text},
    "/sdapi/v1/extra-single-image": lambda text: {"image": text},
    "/controlnet/detect": lambda text: {"controlnet_input_images": [text]},
}


@pytest.mark.parametrize("path", PLACES)
@pytest.mark.parametrize(
    "text",
    [
        "http://169.254.169.254/latest",
        "HTTPS://example.org/a.png",
        "file:///etc/passwd",
        "/etc/passwd",
        "data:text/html;base64,PGI+",
        "",
        "====",
        "QUJD" * 1000,
    ],
)
def test_an_address_is_no_picture_and_nothing_is_fetched(
    refused, path, text, monkeypatch
):
    real = socket.getaddrinfo

    def looked_up(host, *args, **more):
        assert host in ("127.0.0.1", b"127.0.0.1"), host
        return real(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    assert "must be" in refused(path, PLACES[path](text))


@pytest.mark.parametrize("path", PLACES)
@pytest.mark.parametrize("size", [(50_000, 50_000), (8_000, 8_000), (0, 10)])
def test_a_picture_that_unpacks_to_too_much_is_not_unpacked(refused, path, size):
    refused(path, PLACES[path](huge_png(*size)))


def test_a_picture_whose_text_unpacks_to_too_much_is_refused(refused):
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("parameters", "a" * (70 * 2**20), zip=True)
    text = text_of(noise(), pnginfo=chunks)
    assert len(text) < 10**6
    refused("/sdapi/v1/png-info", {"image": text})


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "..\\b"])
def test_names_of_models_and_adapters_are_no_paths(refused, name):
    refused("/jobs", {**PAINT, "model": name}, 404)
    refused("/sdapi/v1/options", {"sd_model_checkpoint": name}, 404)
    settings = {"override_settings": {"sd_model_checkpoint": name}}
    refused("/sdapi/v1/txt2img", {**SHORT, **settings}, 404)
    refused("/sdapi/v1/txt2img", {**SHORT, "prompt": f"<lora:{name}:1>"}, 404)
    refused("/v1/images/generations", {"prompt": "", "model": name}, 404)
    for field, value in (("adapters", [[name, 1.0]]), ("refiner", name)):
        answer = json.loads(refused("/jobs", {**PAINT, field: value}))
        assert "must be given as" in answer["error"]["message"]


def test_a_link_that_leads_out_of_the_folder_is_no_adapter(refused, models, tmp_path):
    outside = tmp_path / "outside.safetensors"
    outside.write_bytes(b"not for you")
    link = models.adapters / "link.safetensors"
    link.symlink_to(outside)
    try:
        refused("/jobs", {**PAINT, "prompt": "a <lora:link:1>"}, 404)
    finally:
        link.unlink()


def test_an_adapter_that_is_none_fails_alone(ask, models):
    """Not a picture without it, nor a server that has fallen over."""
    (models.adapters / "broken.safetensors").write_bytes(b"\0" * 100)
    answer = ask("POST", "/sdapi/v1/txt2img", {**SHORT, "prompt": "<lora:broken:1>"})
    assert answer.status == 422 and str(models.adapters) not in str(answer.body)
    assert ask("POST", "/sdapi/v1/txt2img", {**SHORT, "prompt": ""}).status == 200


NUMBERS = (-1, 0, 10**9, 10**400, 1e308, float("nan"), float("inf"), "7", True, [], {})


@pytest.mark.parametrize("name", ["steps", "width", "batch_size", "n_iter", "seed"])
def test_numbers_that_are_none_or_too_large_are_refused(ask, name):
    for value in NUMBERS:
        answer = ask("POST", "/sdapi/v1/txt2img", {"prompt": "", **SHORT, name: value})
        if name == "seed" and value in (-1, 0, 10**9) and value is not True:
            assert answer.status == 200
            continue
        if value in ([], {}) and answer.status == 200:
            continue  # nothing is asked
        assert answer.status == 422, (value, answer.body)
        assert len(answer.body["detail"]) < 1000


@pytest.mark.parametrize(
    "path, values",
    [
        ("extra-single-image", {"upscaler_1": {"a": 1}}),
        ("extra-single-image", {"upscaler_1": ["Lanczos"]}),
        ("extra-single-image", {"upscaler_1": "Lanczos", "upscaler_2": "None"}),
        ("detect", {"controlnet_threshold_a": "x"}),
    ],
)
def test_what_extras_are_told_wrongly_is_refused(refused, path, values):
    text = text_of(noise())
    if path == "detect":
        values = {"controlnet_module": "canny", **values}
        refused("/controlnet/detect", {"controlnet_input_images": [text], **values})
    else:
        values = {"extras_upscaler_2_visibility": 0.5, **values}
        refused(f"/sdapi/v1/{path}", {"image": text, **values})


def test_a_strip_that_is_cropped_is_not_first_made_huge(ask, refused):
    """As wide as the result, it would have 134 million pixels."""
    asked = {"image": text_of(Image.new("RGB", (16, 8192))), "upscaler_1": "Lanczos"}
    asked |= {"resize_mode": 1, "upscaling_resize_w": 512, "upscaling_resize_h": 32}
    answer = ask("POST", "/sdapi/v1/extra-single-image", asked)
    assert answer.status == 200, answer.body
    thin = {**asked, "upscaling_resize_w": 4096, "upscaling_resize_h": 1}
    assert "keep a row" in refused("/sdapi/v1/extra-single-image", thin)
    content = base64.b64decode(answer.body["image"])
    assert Image.open(io.BytesIO(content)).size == (512, 32)


@pytest.mark.parametrize("path", [x for x in PLACES if "png-info" not in x])
def test_a_picture_of_a_few_pixels_is_refused(refused, path):
    text = text_of(Image.new("RGB", (1, 32)))
    assert "16 pixels or more" in refused(path, PLACES[path](text))


def test_adapters_without_end_are_refused(refused, models):
    """Each would be read and merged while all others wait."""
    (models.adapters / "one.safetensors").write_bytes(b"")
    named = refused("/jobs", {**PAINT, "adapters": [["one", 1.0]] * 10**5})
    assert "at most 64 adapters" in named
    tags = "<lora:one:0.1> " * 4000
    refused("/sdapi/v1/txt2img", {**SHORT, "prompt": tags})
    (models.adapters / "one.safetensors").unlink()


def test_a_prompt_of_a_megabyte_is_refused(refused):
    for prompt in ("a" * 10**6, "(" * 10**5, "[a:" * 10**4, "a AND " * 10**4):
        refused("/sdapi/v1/txt2img", {**SHORT, "prompt": prompt})
        refused("/jobs", {**PAINT, "prompt": prompt})
        refused("/v1/images/generations", {"prompt": prompt}, 400)


def test_names_of_a_megabyte_are_refused(refused):
    long = "x" * 10**6
    for values in ({long: 1}, {"sampler_name": long}, {"scheduler": long}):
        refused("/sdapi/v1/txt2img", {**SHORT, "prompt": "", **values})
    more = {"pag_scale": 1.0, "pag_applied_layers": [long]}
    for values in ({long: 1}, {"rng": long}, more, {"task": long}):
        refused("/jobs", {**PAINT, **values})


def test_json_that_is_deep_or_broken_is_refused(refused):
    for content in (b"[" * 10**5, b'{"a":' * 10**4 + b"1" + b"}" * 10**4, b"\xff\xfe"):
        for path in ("/jobs", "/sdapi/v1/txt2img", "/sdapi/v1/options"):
            refused(path, content)


def test_half_of_a_character_is_no_text(refused, ask):
    for content in (
        rb'{"prompt": "a \ud83c"}',
        '{"prompt": "\\uDF4E"}'.encode("utf-16"),
    ):
        refused("/sdapi/v1/txt2img", content)
        refused("/v1/images/generations", content, 400)
    whole = b'{"prompt": "\\ud83c\\udf4e", ' + json.dumps(SHORT).encode()[1:]
    answer = ask("POST", "/sdapi/v1/txt2img", whole)
    assert answer.body["parameters"]["prompt"] == "\U0001f34e"


def test_who_sends_more_than_is_read_gets_the_reason(ask):
    """And not a connection that is closed on it."""
    head = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n'
    for content, kind in (
        (b" " * 80 * 2**20, "application/json"),
        (head + b"a" * 40 * 2**20 + b"\r\n--x--", "multipart/form-data; boundary=x"),
    ):
        answer = ask("POST", "/v1/images/edits", content, Content_Type=kind)
        assert answer.status in (400, 413) and answer.body["error"]["message"]


def test_a_body_beyond_the_limit_is_refused(server):
    """By its stated length; and by what comes, where nothing is stated."""
    for stated in (True, False):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            head = "POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            if stated:
                head += "Content-Length: 99999999999\r\n\r\n"
                connection.sendall(head.encode())
            else:
                head += "Transfer-Encoding: chunked\r\n\r\n"
                connection.sendall(head.encode())
                block = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
                try:
                    for _ in range(1100):
                        connection.sendall(block)
                except OSError:
                    pass  # it has said no, and hung up
            connection.settimeout(SOON)
            try:
                assert b" 413 " in connection.recv(4096)
            except ConnectionResetError:
                assert not stated


def test_pages_of_other_sites_get_nothing(refused):
    refused("/sdapi/v1/txt2img", {"prompt": ""}, 403, Host="evil.example")
    refused("/jobs", PAINT, 403, Origin="https://evil.example")


def test_nothing_is_said_to_other_origins_about_this_one(ask):
    assert "Access-Control-Allow-Origin" not in ask("GET", "/health").headers


def test_a_key_is_asked_for_everywhere(models):
    from kerasdiffusion.apps.server.core import Settings
    from tests.apps.server.conftest import serving

    own = serving(Settings(models, keys=["right"], users=["me:right"]))
    try:
        for path in ("/jobs", "/metrics", "/openapi.json", "/docs", "/v1/models"):
            assert call(own.url, "GET", path).status == 401
            answer = call(own.url, "GET", path, Authorization="Bearer wrong")
            assert answer.status == 401 and "wrong" not in str(answer.body)
            answer = call(own.url, "GET", path, Authorization="Bearer right")
            assert answer.status == 200
        basic = base64.b64encode(b"me:right").decode()
        answer = call(
            own.url, "GET", "/sdapi/v1/options", Authorization=f"Basic {basic}"
        )
        assert answer.status == 200
        assert call(own.url, "GET", "/health").status == 200
    finally:
        own.end()


def test_a_photo_is_turned_as_it_says(ask):
    """As phones write them: rotated by EXIF, and several pictures in one file."""
    wide = Image.new("RGB", (64, 32), "white")
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    for kind in ("JPEG", "MPO"):
        more = {"save_all": True} if kind == "MPO" else {}
        text = text_of(wide, kind, exif=exif, **more)
        answer = ask("POST", "/sdapi/v1/extra-single-image", {"image": text})
        assert picture_of(answer.body["image"]).size == (32, 64), kind


def leave(server, path, values):
    """Asks, and hangs up when it is being painted."""
    content = json.dumps(values).encode()
    connection = socket.create_connection(("127.0.0.1", server.port))
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}"
    connection.sendall(f"{head}\r\n\r\n".encode() + content)
    while server.core.queue.counts()[1] == 0:
        time.sleep(0.01)
    (job,) = server.core.queue.running()
    while job.step < 1:
        time.sleep(0.01)
    connection.close()
    return job


@pytest.mark.parametrize(
    "path, values",
    [
        ("/sdapi/v1/txt2img", {**SHORT, "sampler_name": "Euler", "steps": 1000}),
        ("/v1/images/generations", {"prompt": "", "steps": 1000}),
        ("/v1/images/generations", {"prompt": "", "steps": 1000, "stream": True}),
    ],
)
def test_who_leaves_frees_the_device(server, ask, path, values):
    job = leave(server, path, values)
    while server.core.queue.counts() != (0, 0):
        time.sleep(0.01)
    assert job.state == "cancelled" and job.step < 1000
    assert ask("POST", "/sdapi/v1/txt2img", {"prompt": "", **SHORT}).status == 200


def test_two_at_once_keep_their_seeds(ask):
    from concurrent.futures import ThreadPoolExecutor

    def paint(seed):
        answer = ask("POST", "/sdapi/v1/txt2img", {**SHORT, "seed": seed, "prompt": ""})
        return np.asarray(picture_of(answer.body["images"][0])).astype(int)

    alone = [paint(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(paint, range(4)))
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one - other).max() <= 1
    assert np.abs(alone[0] - alone[1]).max() > 10


def test_no_prompt_is_logged(ask, caplog, capfd):
    secret = "a very secret cat"
    with caplog.at_level("INFO"):
        ask("POST", "/sdapi/v1/txt2img", {**SHORT, "prompt": f"{secret}\r\n\x1b[31m"})
        ask("POST", "/jobs", {**PAINT, "prompt": f"({secret}" * 300})
        ask("POST", "/v1/images/generations", {"prompt": secret, "size": "1x"})
        ask("POST", "/sdapi/v1/txt2img", {**SHORT, "prompt": f"{secret}<lora:no:1>"})
    assert secret not in caplog.text
    captured = capfd.readouterr()
    assert secret not in captured.out + captured.err

"""Pictures out: sizes, names, grids, PNG files and what they say."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from kerasdiffusion.pictures.generation_parameters import (
    format_parameters,
    parse_parameters,
)
from kerasdiffusion.pictures.metadata import read_parameters
from kerasdiffusion.pictures.write import (
    check_size,
    filename_for,
    grid,
    save_png,
)
from kerasdiffusion.storage import whole

ROOT = Path(__file__).parents[2]
# Dies when all of the picture is written, and not yet under its name.
KILLED = """
import os, signal, sys
import numpy as np
from kerasdiffusion.pictures.write import save_png
from kerasdiffusion.storage import whole
whole.sync = lambda path: os.kill(os.getpid(), signal.SIGKILL)
save_png(np.zeros((16, 24, 3), "uint8"), sys.argv[1] + "/a.png")
"""
PICTURE = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)

# A text that the web UI itself gives as its example.
WEB_UI = """\
girl with an artist's beret, determined, blue eyes, ((eyeshadow)), (coquettish)
Negative prompt: ugly, (((deformed))), [blurry], (extra_limb)
Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 965400086, Size: 512x768, \
Model hash: 45dee52b"""


class TestSize:
    @pytest.mark.parametrize("size", [(8, 8), (512, 768), (np.int64(64), np.int32(72))])
    def test_multiples_of_eight_pass(self, size):
        check_size(*size)

    @pytest.mark.parametrize("size", [(0, 8), (8, -8), (8, 0), (500, 512), (512, 511)])
    def test_other_sizes_are_refused_with_the_rule(self, size):
        rule = (
            f"multiples of 8, at least 8. Received: height={size[0]}, width={size[1]}"
        )
        with pytest.raises(ValueError, match=rule):
            check_size(*size)

    def test_the_multiple_is_the_callers(self):
        with pytest.raises(ValueError, match="multiples of 64"):
            check_size(72, 64, multiple=64)

    @pytest.mark.parametrize("side", [64.0, "64", None, True])
    def test_a_side_is_an_integer(self, side):
        with pytest.raises(TypeError, match="must be integers. Received: height=64"):
            check_size(64, side)


class TestGrid:
    @pytest.mark.parametrize(
        ("count", "columns", "rows_and_columns"),
        [
            (1, None, (1, 1)),
            (2, None, (1, 2)),
            (4, None, (2, 2)),
            (5, None, (2, 3)),
            (10, None, (3, 4)),
            (5, 1, (5, 1)),
            (5, 2, (3, 2)),
            (3, 9, (1, 3)),
        ],
    )
    def test_every_picture_has_its_place(self, count, columns, rows_and_columns):
        rng = np.random.default_rng(1)
        images = rng.integers(1, 256, (count, 3, 5, 3), np.uint8)
        rows, across = rows_and_columns
        sheet = grid(images, columns)
        assert sheet.shape == (rows * 3, across * 5, 3)
        assert sheet.dtype == np.uint8
        for index in range(rows * across):
            row, column = divmod(index, across)
            cell = sheet[row * 3 : row * 3 + 3, column * 5 : column * 5 + 5]
            np.testing.assert_array_equal(cell, images[index] if index < count else 0)

    def test_what_makes_no_grid_is_refused(self):
        with pytest.raises(ValueError, match="at least one picture.*Received: 0"):
            grid([])
        with pytest.raises(ValueError, match="one shape. Received: 2 pictures"):
            grid([PICTURE, PICTURE[:8]])
        with pytest.raises(ValueError, match="`columns`.*Received: 0"):
            grid([PICTURE], columns=0)
        with pytest.raises(TypeError, match="uint8. Received: float64"):
            grid([PICTURE / 255.0])


class TestFilename:
    @pytest.mark.parametrize(
        ("prompt", "name"),
        [
            ("A red apple on a blue background!", "a-red-apple-on-a-blue-background-7"),
            ("../../etc/passwd", "etc-passwd-7"),
            ('a<b>:"|?*\\c\0\n', "a-b-c-7"),
            ("CON", "con-7"),
            ("nul.txt", "nul-txt-7"),
            ("...", "picture-7"),
            ("", "picture-7"),
            ("🍎🍏", "picture-7"),
            ("Äpfel, 猫 и яблоко", "äpfel-猫-и-яблоко-7"),
            ("नमस्ते", "नमस्ते-7"),
            ("e\u0301te\u0301", "été-7"),
            ("a\u202egnp.exe \ud800", "a-gnp-exe-7"),
        ],
    )
    def test_a_prompt_becomes_a_safe_name(self, prompt, name):
        assert filename_for(prompt, 7) == f"{name}.png"

    @pytest.mark.parametrize("prompt", ["word " * 500, "猫" * 500, "𝔘é" * 300])
    def test_a_long_prompt_becomes_a_short_name(self, prompt, tmp_path):
        name = filename_for(prompt, 2**64 - 1)
        assert 100 < len(name.encode()) <= 150
        assert name.endswith("-18446744073709551615.png")
        (tmp_path / name).touch()

    def test_a_seed_is_an_integer(self):
        assert filename_for("cat", np.uint32(5)) == "cat-5.png"
        with pytest.raises(TypeError):
            filename_for("cat", 1.5)


class TestParameters:
    def test_they_are_written_as_the_web_ui_writes_them(self):
        text = format_parameters(
            "a cat, sitting\non a mat",
            "dog",
            steps=20,
            sampler="Euler a",
            guidance_scale=7.0,
            seed=1,
            height=512,
            width=768,
            model="emoji",
            version="kerasdiffusion 1, beta",
        )
        assert text == (
            "a cat, sitting\non a mat\nNegative prompt: dog\n"
            "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 768x512, "
            'Model: emoji, Version: "kerasdiffusion 1, beta"'
        )

    def test_the_web_uis_own_text_is_read(self):
        assert parse_parameters(WEB_UI) == {
            "prompt": WEB_UI.split("\n")[0],
            "negative_prompt": "ugly, (((deformed))), [blurry], (extra_limb)",
            "steps": 20,
            "sampler": "Euler a",
            "guidance_scale": 7.0,
            "seed": 965400086,
            "width": 512,
            "height": 768,
            "model_hash": "45dee52b",
        }

    def test_quoted_and_unknown_values_are_read(self):
        text = (
            "cat\nSteps: many, Sampler: DPM++ 2M, Schedule type: Karras, Seed: 5, "
            'TI hashes: "a: 1, b: \\"2\\"", Hashes: {"vae": "x", "model": "y"}, '
            "Version: v1.9.0"
        )
        read = parse_parameters(text)
        assert read["steps"] == "many"
        assert read["schedule_type"] == "Karras"
        assert read["TI hashes"] == 'a: 1, b: "2"'
        assert read["version"] == "v1.9.0"

    @pytest.mark.parametrize(
        "prompt",
        [
            "a cat",
            "",
            "two\nlines",
            "a line break at the end\n",
            "\n\n",
            "  spaces  ",
            "commas, colons: (cat:1.2), \"quotes\", 'single', back\\slash\\",
            "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1",
            "猫 🍎 naïve שלום",
            "windows\r\nlines",
            "mind the Negative prompt: here",
            '"all quoted"',
        ],
    )
    @pytest.mark.parametrize("negative_prompt", ["", "ugly", "a\nNegative prompt: b\n"])
    def test_prompts_come_back(self, prompt, negative_prompt, tmp_path):
        given = {
            "prompt": prompt,
            "negative_prompt": negative_prompt,
            "steps": 5,
            "guidance_scale": 7.123456789,
            "seed": 2**63,
        }
        assert parse_parameters(format_parameters(**given)) == given
        path = save_png(PICTURE, tmp_path / "a.png", given)
        assert read_parameters(path) == given

    @pytest.mark.parametrize(
        "value",
        ["a, b", "a: b", '"', '"a"', 'a "b"', "\n", "", " a", "a\\", "é猫", "x,"],
    )
    def test_values_come_back(self, value):
        given = {"steps": 1, "sampler": value, "Own-key/2": value, "model": value}
        read = parse_parameters(format_parameters("p", **given))
        assert read == {"prompt": "p", "negative_prompt": "", **given}

    @pytest.mark.parametrize(
        "parameters", [{}, {"seed": 3}, {"model": "a", "steps": 2}]
    )
    def test_few_parameters_come_back(self, parameters):
        read = parse_parameters(format_parameters("a cat", **parameters))
        assert read == {"prompt": "a cat", "negative_prompt": "", **parameters}

    def test_a_prompt_alone_is_a_prompt(self):
        for prompt in ("a cat", "style: ink, a cat", "a cat,\na dog"):
            assert parse_parameters(prompt)["prompt"] == prompt

    def test_none_is_left_out_and_a_parameter_replaces_no_prompt(self):
        assert format_parameters("p", None, model=None, seed=1) == "p\nSeed: 1"
        read = parse_parameters("p\nSteps: 1, Seed: 2, prompt: other")
        assert read["prompt"] == "p"

    def test_bad_arguments_are_refused(self):
        with pytest.raises(
            ValueError, match="together. Received: height=8, width=None"
        ):
            format_parameters("p", height=8)
        with pytest.raises(ValueError, match="name of a parameter.*Received: 'a:b'"):
            format_parameters("p", **{"a:b": 1})

    @pytest.mark.parametrize("piece", ["a", " ", ",", "a:", 'a: "', '\\"', "ab: 1,"])
    def test_reading_a_hostile_text_takes_no_quadratic_time(self, piece):
        for start in ("", "Steps: 1, ", 'Steps: 1, ab: "'):
            read = parse_parameters(start + piece * 100_000)
            assert set(read) >= {"prompt", "negative_prompt"}


class TestPng:
    def test_a_picture_and_its_parameters_are_kept(self, tmp_path):
        parameters = {"prompt": "猫", "steps": 2, "seed": 1, "height": 16, "width": 24}
        path = save_png(PICTURE, tmp_path / "deep" / "folder" / "a.png", parameters)
        assert path == tmp_path / "deep" / "folder" / "a.png"
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image), PICTURE)
            # Where the web UI looks for it.
            assert image.info["parameters"] == format_parameters(**parameters)
        assert read_parameters(str(path)) == {"negative_prompt": "", **parameters}

    def test_what_no_png_can_hold_is_replaced(self, tmp_path):
        given = {"prompt": "a\ud800b\0c", "seed": 1}
        assert read_parameters(save_png(PICTURE, tmp_path / "a.png", given)) == {
            "prompt": "a?b c",
            "negative_prompt": "",
            "seed": 1,
        }

    def test_a_file_that_exists_is_never_written_over(self, tmp_path):
        (tmp_path / "a.png").write_text("mine")
        (tmp_path / "a-2.png").symlink_to(tmp_path / "nowhere")
        paths = [save_png(PICTURE, tmp_path / "a.png") for _ in range(2)]
        assert [path.name for path in paths] == ["a-3.png", "a-4.png"]
        assert (tmp_path / "a.png").read_text() == "mine"

    def test_many_writers_get_a_file_each(self, tmp_path):
        with ThreadPoolExecutor(8) as pool:
            paths = set(
                pool.map(lambda _: save_png(PICTURE, tmp_path / "a.png"), range(24))
            )
        assert len(paths) == 24
        for path in paths:
            np.testing.assert_array_equal(np.asarray(Image.open(path)), PICTURE)

    @pytest.mark.parametrize("error", [OSError("No space left"), KeyboardInterrupt()])
    def test_what_cannot_be_finished_leaves_nothing(self, tmp_path, monkeypatch, error):
        def full(part):
            assert part.stat().st_size > 0 and not (tmp_path / "a.png").exists()
            raise error

        monkeypatch.setattr(whole, "sync", full)
        with pytest.raises(type(error)):
            save_png(PICTURE, tmp_path / "a.png")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
    def test_a_kill_leaves_no_picture_under_its_name(self, tmp_path):
        """And what it leaves under another the next picture clears."""
        child = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT)
        assert child.returncode == -signal.SIGKILL
        (left,) = tmp_path.iterdir()
        assert left.name.endswith(".part")
        assert save_png(PICTURE, tmp_path / "a.png") == tmp_path / "a.png"
        assert [each.name for each in tmp_path.iterdir()] == ["a.png"]

    def test_what_is_no_picture_is_refused(self, tmp_path):
        with pytest.raises(TypeError, match="uint8. Received: float32"):
            save_png(PICTURE.astype("float32"), tmp_path / "a.png")
        for bad in (PICTURE[0], PICTURE[..., :2], PICTURE[None], PICTURE[:0]):
            with pytest.raises(ValueError, match="height, width, 3.*Received: "):
                save_png(bad, tmp_path / "a.png")
        with pytest.raises(ValueError, match="end in .png. Received: .*a.jpg"):
            save_png(PICTURE, tmp_path / "a.jpg")
        assert list(tmp_path.iterdir()) == []


def chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return (
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)
    )


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    parts = [chunk(b"IHDR", header), *chunks, pixels, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


class TestReadingBadFiles:
    def test_a_missing_file(self, tmp_path):
        for path in (tmp_path / "none.png", tmp_path):
            with pytest.raises(FileNotFoundError, match="Received: "):
                read_parameters(path)

    def test_a_picture_without_parameters(self, tmp_path):
        path = save_png(PICTURE, tmp_path / "a.png")
        with pytest.raises(ValueError, match="text chunk `parameters`.*Received: "):
            read_parameters(path)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"no picture",
            b"\x89PNG\r\n\x1a\n",
            png(10, 10)[:30],
            # Far more pixels than Pillow trusts.
            png(100_000, 100_000),
            # 20 MB of text in 20 kB.
            png(
                10,
                10,
                chunk(b"zTXt", b"parameters\0\0" + zlib.compress(bytes(20_000_000))),
            ),
        ],
        ids=["empty", "text", "signature", "cut", "pixel bomb", "text bomb"],
    )
    def test_a_file_that_is_no_readable_png(self, tmp_path, content):
        path = tmp_path / "a.png"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="must .*Received: "):
            read_parameters(path)

    def test_a_picture_of_another_format(self, tmp_path):
        Image.fromarray(PICTURE).save(tmp_path / "a.png", format="GIF")
        with pytest.raises(ValueError, match="must .*Received: "):
            read_parameters(tmp_path / "a.png")

    def test_a_file_cut_or_changed_anywhere(self, tmp_path):
        whole = save_png(PICTURE, tmp_path / "a.png", {"prompt": "猫", "seed": 1})
        content = whole.read_bytes()
        for position in range(0, 120):
            for broken in (
                content[:position],
                content[:position] + b"\xff" + content[position + 1 :],
            ):
                (tmp_path / "b.png").write_bytes(broken)
                try:
                    read_parameters(tmp_path / "b.png")
                except ValueError as error:
                    assert "Received: " in str(error)

    def test_the_text_may_be_compressed(self, tmp_path):
        info = PngImagePlugin.PngInfo()
        info.add_text("parameters", WEB_UI, zip=True)
        Image.fromarray(PICTURE).save(tmp_path / "a.png", pnginfo=info)
        assert read_parameters(tmp_path / "a.png") == parse_parameters(WEB_UI)

"""Peak memory of a decode, in tiles and in one piece."""

import pytest

from kerasdiffusion.apps.bench.tiles import decode_memory, lines
from kerasdiffusion.apps.cli import main
from kerasdiffusion.config import AutoencoderConfig

SMALL = AutoencoderConfig(block_widths=(8, 8), blocks_per_level=1, norm_groups=4)


def test_what_a_decode_takes_at_most():
    (result,) = decode_memory(SMALL, cases=((192, 64),))
    assert 2**26 < result["before"] <= result["bytes"] < 2**36
    (line,) = lines([result])
    assert line.startswith("decode 192x192, in tiles: ") and "MiB" in line


def test_what_cannot_be_measured_is_said():
    with pytest.raises(
        ChildProcessError, match="64x64 could not be measured.*`tiling`"
    ):
        decode_memory(SMALL, cases=((64, "wrong"),))


def test_the_command_prints_it(monkeypatch, capsys):
    asked = []

    def decode_memory(config):
        asked.append(config)
        return [{"side": 768, "tiling": False, "bytes": 3 * 2**20, "before": 2**20}]

    monkeypatch.setattr("kerasdiffusion.apps.bench.tiles.decode_memory", decode_memory)
    assert main(["bench", "--preset", "sd1.5", "--decode-memory"]) == 0
    assert asked == [AutoencoderConfig()]
    assert capsys.readouterr().out == (
        "decode 768x768, in one piece: 2 MiB beside 1 MiB of program and weights\n"
    )

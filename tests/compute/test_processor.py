"""What the processor says of itself."""

from pathlib import Path

import pytest

from kerasdiffusion.compute import processor

X86 = """processor\t: 0
model name\t: AMD EPYC
flags\t\t: fpu sse2 fma avx avx2 avx512_bf16_like

processor\t: 1
model name\t: AMD EPYC
flags\t\t: fpu sse2 fma avx avx2 avx512_bf16_like
"""
ARM = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd asimddp i8mm bf16
"""
STAT = "cpu  100 20 30 4000 500 6 7 80 0 0\ncpu0 50 10 15 2000 250 3 4 40 0 0\n"


def test_its_name_and_its_instructions(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text(X86)
    assert processor.name(path) == "AMD EPYC"
    assert processor.instructions(path) == ("avx", "avx2", "fma")
    path.write_text(ARM)
    assert processor.instructions(path) == ("asimd", "asimddp", "i8mm", "bf16")
    assert processor.name(path)  # the architecture's
    assert processor.instructions(tmp_path / "none") == ()


def test_what_the_machine_has_done(tmp_path):
    path = tmp_path / "stat"
    assert processor.work(path) is None
    path.write_text(STAT)
    ticks = pytest.importorskip("os").sysconf("SC_CLK_TCK")
    found = processor.work(path)
    assert found.busy == pytest.approx((100 + 20 + 30 + 6 + 7) / ticks)
    assert found.stolen == pytest.approx(80 / ticks)
    path.write_text("intr 1 2\n")
    assert processor.work(path) is None


def test_there_is_a_core():
    assert processor.cores() >= 1
    found = processor.work()
    assert (found is None) != Path("/proc/stat").is_file()

"""Samplers by their names, and by those that other programs give them."""

import difflib

import pytest

from kerasdiffusion.sampling.names import ALIASES, SAMPLERS, find_sampler


@pytest.mark.parametrize(
    "name, expected",
    [
        ("DPM++ 2M Karras", "dpmpp_2m_karras"),
        ("dpm++ 2m", "dpmpp_2m"),
        ("Euler a", "euler_ancestral"),
        ("EULER-ANCESTRAL", "euler_ancestral"),
        ("k_lms", "lms"),
        ("LMS Karras", "lms_karras"),
        ("DDIMScheduler", "ddim"),
        ("DPMSolverMultistepScheduler", "dpmpp_2m"),
        ("DPM++ 2M SDE Karras", "dpmpp_2m_sde_karras"),
        ("DPM++ 2M SDE Heun Exponential", "dpmpp_2m_sde_heun_exponential"),
        ("dpmpp_2m_sde_gpu", "dpmpp_2m_sde"),
        ("DPM++ 2S a Karras", "dpmpp_2s_ancestral_karras"),
        ("DPM2 a", "dpm_2_ancestral"),
        ("DPM2 a Karras", "dpm_2_ancestral_karras"),
        ("k_dpm_2_ancestral", "dpm_2_ancestral"),
        ("UniPC", "unipc"),
        ("UniPCMultistepScheduler", "unipc"),
        ("Restart", "restart"),
        ("LCM", "lcm"),
        *((name, name) for name in SAMPLERS),
    ],
)
def test_names(name, expected):
    assert find_sampler(name).name == expected


def test_aliases_lead_to_samplers():
    assert set(ALIASES.values()) <= set(SAMPLERS)


def test_near_names_are_offered():
    with pytest.raises(ValueError, match="Did you mean euler.*Received: 'eulr'"):
        find_sampler("eulr")
    with pytest.raises(ValueError, match="Did you mean dpmpp_2m.*'DPM\\+\\+ 2N'"):
        find_sampler("DPM++ 2N")
    assert not difflib.get_close_matches("xyzzy", SAMPLERS)
    with pytest.raises(
        ValueError, match="deis_3_exponential, ipndm_exponential. Received"
    ):
        find_sampler("xyzzy")
    with pytest.raises(TypeError, match="must be a string. Received: 3"):
        find_sampler(3)

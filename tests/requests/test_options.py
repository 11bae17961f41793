import dataclasses

from kerasdiffusion.requests.options import Options


def test_every_option_is_documented():
    for field in dataclasses.fields(Options):
        assert f"    {field.name}: " in Options.__doc__

"""Networks that are made and read when they are first used."""

from types import SimpleNamespace

from kerasdiffusion.networks.lazy import LazyNetworks


def test_a_part_is_found_while_another_thread_makes_it_the_models():
    class Parts(dict):
        def __contains__(self, part):  # the last part arrives as it is asked for
            found = super().__contains__(part)
            model._parts, model._arrival = {"decoder": "ours"}, None
            return found

    model = LazyNetworks()
    model.config = SimpleNamespace(parts=("decoder",))
    model._guests, model._parts = None, Parts()
    model._arrival = SimpleNamespace(network={"decoder": "ours"}.get, is_complete=False)
    assert model._network("decoder") == "ours"
    assert model._network("decoder") == "ours" and model._arrival is None

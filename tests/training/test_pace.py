"""How long a step will take: what is multiplied, and how fast the device does it."""

import pytest

from kerasdiffusion.presets.config import DiffusionModelConfig
from kerasdiffusion.presets.families import SD1, SDXL
from kerasdiffusion.training import pace
from kerasdiffusion.training.pace import multiplications, step_seconds


def test_the_inside_of_blocks_and_weights_take_as_long_as_a_pass_each(monkeypatch):
    monkeypatch.setattr(pace, "multiplications_a_second", lambda dtype: 1e9)
    config, shape = DiffusionModelConfig(), (1, 32, 32, 4)
    forward = multiplications(config, shape) / 1e9
    for flags, passes in (((), 2), ((True,), 3), ((False, True), 3), ((True, True), 4)):
        found = step_seconds(config, shape, "float32", *flags)
        assert found == pytest.approx(passes * forward + pace.BESIDE)
    assert multiplications(config, (3, 32, 32, 4)) == 3e9 * forward


@pytest.mark.every_backend_at_length
def test_the_device_multiplies():
    assert 1e7 < pace.multiplications_a_second("float32") < 1e16


@pytest.mark.heavy
@pytest.mark.parametrize("config, side", [(SD1, 64), (SDXL, 128)], ids=["1", "XL"])
def test_as_many_as_pytorch_counts_in_diffusers_network(config, side):
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    from torch.utils.flop_counter import FlopCounterMode

    net = config.diffusion_model
    kinds = [bool(depth) for depth in net.transformer_depths]
    down = [f"{'CrossAttn' * attends}DownBlock2D" for attends in kinds]
    up = [f"{'CrossAttn' * attends}UpBlock2D" for attends in reversed(kinds)]
    more = {"added_cond_kwargs": None}
    options = {}
    if net.vector_width:
        options = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": net.vector_id_width,
            "projection_class_embeddings_input_dim": net.vector_width,
        }
        width = net.vector_width - 6 * net.vector_id_width
        more["added_cond_kwargs"] = {
            "text_embeds": torch.empty(1, width, device="meta"),
            "time_ids": torch.empty(1, 6, device="meta"),
        }
    with torch.device("meta"):
        peer = diffusers.UNet2DConditionModel(
            down_block_types=down,
            up_block_types=up,
            block_out_channels=net.block_widths,
            transformer_layers_per_block=[max(d, 1) for d in net.transformer_depths],
            attention_head_dim=net.heads,
            cross_attention_dim=net.context_width,
            use_linear_projection=net.linear_projection,
            **options,
        )
        told = torch.empty(1, 77, net.context_width)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            peer(torch.empty(1, 4, side, side), torch.tensor(1), told, **more)
    found = 2 * multiplications(net, (1, side, side, 4))
    assert found == pytest.approx(counter.get_total_flops(), rel=0.01)

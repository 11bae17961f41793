import numpy as np
import pytest
from keras import ops

from kerasdiffusion.models.token_merging import (
    bipartite_matching,
    finest_attention,
    matching,
    merging,
)
from kerasdiffusion.presets.config import DiffusionModelConfig
from kerasdiffusion.presets.named import PRESETS

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def stated(decide, tokens, share, height, width):
    """The paper's section 3, a token at a time: what each token has become."""
    squares = [
        row * width + column
        for row in range(0, height // 2 * 2, 2)
        for column in range(0, width // 2 * 2, 2)
    ]
    others = [i for i in range(height * width) if i not in squares]
    unit = decide / np.linalg.norm(decide, axis=-1, keepdims=True)
    best = {i: max(squares, key=lambda j: unit[i] @ unit[j]) for i in others}
    likest = sorted(others, key=lambda i: -(unit[i] @ unit[best[i]]))
    merged = likest[: int(share * height * width)]
    groups = {j: [j] + [i for i in merged if best[i] == j] for j in squares}
    result = tokens.copy()
    for group in groups.values():
        result[group] = tokens[group].mean(axis=0)
    return result, height * width - len(merged)


@pytest.mark.parametrize(
    "height, width, share",
    [
        pytest.param(6, 8, 0.5, marks=pytest.mark.every_backend_at_length),
        pytest.param(5, 7, 0.3, marks=pytest.mark.every_backend),
        pytest.param(4, 4, 0.75, marks=pytest.mark.every_backend_at_length),
    ],
)
def test_the_likest_tokens_become_their_partners_mean(height, width, share):
    decide, tokens = normal(2, height * width, 6), normal(2, height * width, 3)
    merge, unmerge = bipartite_matching(ops.array(decide), share, height, width)
    fewer = merge(ops.array(tokens))
    found = ops.convert_to_numpy(unmerge(fewer))
    for i in range(2):
        expected, left = stated(decide[i], tokens[i], share, height, width)
        assert fewer.shape[1] == left < height * width
        np.testing.assert_allclose(found[i], expected, atol=1e-6)


def test_a_token_without_a_direction_is_no_trouble():
    tokens = np.zeros((1, 16, 3), "float32")
    merge, unmerge = bipartite_matching(ops.array(tokens), 0.5, 4, 4)
    assert np.all(ops.convert_to_numpy(unmerge(merge(ops.array(tokens)))) == 0.0)


def test_nothing_is_merged_unless_it_is_asked_for_there():
    tokens = ops.array(normal(1, 16, 3))
    merge, _ = matching(tokens)
    assert merge(tokens) is tokens
    with merging(0.5, 8, 8):  # of a finer level
        merge, unmerge = matching(tokens)
        assert merge(tokens) is tokens and unmerge(tokens) is tokens
    with merging(0.5, 4, 4):
        merge, _ = matching(tokens)
        assert merge(tokens).shape == (1, 8, 3)
    for share, height, width in ((0.05, 4, 4), (0.5, 1, 16)):
        merge, _ = bipartite_matching(tokens, share, height, width)
        assert merge(tokens) is tokens


def test_the_finest_level_with_self_attention():
    assert finest_attention(DiffusionModelConfig()) == 0
    assert finest_attention(PRESETS["sdxl"].config.diffusion_model) == 1
    for more in (
        {"transformer_depths": (0, 0)},
        {"transformer_depths": (1, 0), "only_cross_attention": (True, False)},
    ):
        config = DiffusionModelConfig(block_widths=(32, 64), heads=(2, 2), **more)
        assert finest_attention(config) is None

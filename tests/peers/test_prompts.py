"""Context of weighted and long prompts, beside compel and diffusers' community."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kerasdiffusion.prompts import parse
from tests.tiny import TINY_SDXL, tiny_model

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

DATA = Path(__file__).parent / "data" / "lpw_contexts.npz"


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def peer(model, tmp_path_factory):
    """transformers' tokenizer and text encoder with the same files."""
    folder = tmp_path_factory.mktemp("prompts") / "tiny"
    model.save_preset(folder)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoder = transformers.CLIPTextModel.from_pretrained(folder / "text_encoder")
    return tokenizer, encoder.eval()


@pytest.mark.parametrize("clip_skip", [1, 2])
@pytest.mark.parametrize(
    "prompt",
    [
        "two cats",
        "two (cats:1.4)",
        "(two:1.2) cats (red:1.5)",
        "two (cats:0.5)",
        "(two:0.3) (red:1.3) (cats:0)",
        "((two)) [cats]",
    ],
)
def test_compel(prompt, clip_skip, model, peer):
    compel = pytest.importorskip("compel")
    kinds = compel.ReturnedEmbeddingsType
    kind = {
        1: kinds.LAST_HIDDEN_STATES_NORMALIZED,
        2: kinds.PENULTIMATE_HIDDEN_STATES_NORMALIZED,
    }[clip_skip]
    tokenizer, encoder = peer
    # transformers 5 has the final norm one floor higher than compel looks for it.
    if not hasattr(encoder, "text_model"):
        norm = SimpleNamespace(final_layer_norm=encoder.final_layer_norm)
        encoder.__dict__["text_model"] = norm
    from compel.embeddings_provider import EmbeddingsProvider

    provider = EmbeddingsProvider(tokenizer, encoder, returned_embeddings_type=kind)
    spans = [span for span in parse(prompt) if span.text.strip()]
    with torch.no_grad():
        expected = provider.get_embeddings_for_weighted_prompt_fragments(
            [[span.text for span in spans]], [[span.weight for span in spans]]
        ).numpy()
    found = model.encode_text(prompt, prompt_weighting="compel", clip_skip=clip_skip)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-4


def test_compel_for_two_text_encoders(tmp_path):
    """SDXL's: the penultimate layers side by side, and the pooled text."""
    compel = pytest.importorskip("compel")
    from compel.embeddings_provider import EmbeddingsProvider

    model = tiny_model(config=TINY_SDXL)
    model.save_preset(tmp_path / "xl")
    kind = compel.ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
    expected, prompt = [], "two (cats:1.4) (red:0.5)"
    for number, name in (("", "CLIPTextModel"), ("_2", "CLIPTextModelWithProjection")):
        folder = tmp_path / "xl"
        tokenizer = transformers.CLIPTokenizer.from_pretrained(
            folder / f"tokenizer{number}"
        )
        encoder = getattr(transformers, name).from_pretrained(
            folder / f"text_encoder{number}"
        )
        provider = EmbeddingsProvider(
            tokenizer, encoder.eval(), returned_embeddings_type=kind
        )
        spans = [span for span in parse(prompt) if span.text.strip()]
        with torch.no_grad():
            expected.append(
                provider.get_embeddings_for_weighted_prompt_fragments(
                    [[span.text for span in spans]], [[span.weight for span in spans]]
                ).numpy()
            )
    expected = np.concatenate(expected, axis=-1)
    found = model.encode_text(prompt, prompt_weighting="compel")
    assert found.shape == expected.shape == (1, 12, 72)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-4


def test_diffusers_long_prompt_weighting(model):
    """Its `get_weighted_text_embeddings`, where it and A1111 say the same thing: one
    chunk with weights, or several without."""
    table = np.load(DATA)
    lengths = set()
    for prompt, expected in zip(table["prompts"], table["contexts"], strict=True):
        expected = expected[: int(np.isfinite(expected[:, 0]).sum())]
        found = model.encode_text(str(prompt))[0]
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-4, prompt
        lengths.add(len(found))
    assert lengths == {12, 24, 36}

"""The text encoder: CLIP's text transformer."""

from __future__ import annotations

import keras
from keras import ops

from kerasdiffusion.compute import backend, operations
from kerasdiffusion.compute.repeats import Repeated
from kerasdiffusion.models.layers import Attention, Block, Dense, LayerNorm, Network
from kerasdiffusion.presets.config import TextEncoderConfig

ACTIVATIONS = {
    "quick_gelu": lambda x: x * ops.sigmoid(1.702 * x),
    "gelu": operations.gelu,
}


class TextEncoder(Network):
    """Tokens in, context out: one vector a token; pooled text where it projects.

    Args:
        config: A `TextEncoderConfig`; SD 1's CLIP ViT-L/14 by default.
        dtype: A dtype or dtype policy; the global policy by default.
        name: Name of the model.

    Call arguments:
        tokens: Integer tensor of shape `(batch, tokens)`.
        layers: Encoder layers to go through before the final norm, an integer or an
            integer tensor; all by default.
        vectors: Vectors of learned words, of shape `(count, width)`: tokens from the
            vocabulary's size on are these.
        seen: Which tokens are seen, a boolean tensor of the shape of `tokens`; all by
            default.

    Call returns:
        Context, a tensor of shape `(batch, tokens, width)`. With a projection, a
        tuple of it and the pooled text of shape `(batch, projection_width)`.

    Example:

    >>> config = TextEncoderConfig(width=32, depth=2, heads=2, mlp_width=64)
    >>> TextEncoder(config)(np.zeros((1, 77), "int32")).shape
    (1, 77, 32)

    Reference:
        Radford et al. 2021, "Learning Transferable Visual Models From Natural
        Language Supervision", section 2.4.
    """

    def __init__(
        self, config: TextEncoderConfig = TextEncoderConfig(), dtype=None, name=None
    ):
        self.check_config(config, TextEncoderConfig)
        super().__init__(dtype=dtype, name=name or "text_encoder")
        self.config = config
        self.text_model = TextTransformer(
            config, name="text_model", dtype=self.dtype_policy
        )
        if config.projection_width:
            self.text_projection = Dense(
                config.projection_width,
                use_bias=False,
                name="text_projection",
                dtype=self.dtype_policy,
            )
        self(keras.KerasTensor((1, config.context_length), "int32"))

    def call(self, tokens, layers=None, vectors=None, seen=None):
        context, last = self.text_model(tokens, layers, vectors, seen)
        if not self.config.projection_width:
            return context
        places = ops.argmax(self._ends(tokens), axis=1)
        at_end = ops.one_hot(places, tokens.shape[1], dtype=last.dtype)
        return context, self.text_projection(ops.einsum("bt,btw->bw", at_end, last))

    def _ends(self, tokens):
        """Highest at the token whose vector stands for the whole text.

        Reference: transformers `modeling_clip.py`, `CLIPTextModel.forward`.
        """
        if self.config.end_id is not None:
            return ops.cast(ops.equal(tokens, self.config.end_id), "int32")
        # Learned words, whose ids are beyond the table, are none of the vocabulary.
        return ops.where(tokens < self.config.vocabulary_size, tokens, 0)


class TextTransformer(Block):
    """Embeddings, encoder layers and the final norm.

    Gives the context, of the layer that the configuration says, and what comes out at
    the end. A compiler leaves out what nobody reads.
    """

    def __init__(self, config: TextEncoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.embeddings = TextEmbeddings(
            config, name="embeddings", dtype=self.dtype_policy
        )
        self.encoder_layers = [
            TextEncoderLayer(
                config, name=f"encoder-layers-{i}", dtype=self.dtype_policy
            )
            for i in range(config.depth)
        ]
        self.final_layer_norm = LayerNorm(
            name="final_layer_norm", dtype=self.dtype_policy
        )

    def call(self, tokens, layers=None, vectors=None, seen=None):
        states = [self.embeddings(tokens, vectors)]
        for layer in self.encoder_layers:
            states.append(layer(states[-1], seen))
        last = self.final_layer_norm(states[-1])
        skips = self.config.skipped_layers
        if layers is None:
            context = states[-1 - skips]
        else:
            # Which layer is a number: another one is the same program.
            context = ops.take(ops.stack(states), layers, axis=0)
        if not self.config.final_norm:
            return context, last
        if layers is None and not skips:
            return last, last
        return self.final_layer_norm(context), last


class TextEmbeddings(Block):
    """A vector for each token and one for each position, added."""

    def __init__(self, config: TextEncoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.token_embedding = keras.layers.Embedding(
            config.vocabulary_size,
            config.width,
            embeddings_initializer=backend.initializer(
                keras.initializers.RandomNormal(stddev=0.02)
            ),
            name="token_embedding",
            dtype=self.dtype_policy,
        )
        self.position_embedding = keras.layers.Embedding(
            config.context_length,
            config.width,
            embeddings_initializer=backend.initializer(
                keras.initializers.RandomNormal(stddev=0.01)
            ),
            name="position_embedding",
            dtype=self.dtype_policy,
        )

    def call(self, tokens, vectors=None):
        positions = self.position_embedding(ops.arange(ops.shape(tokens)[1]))
        if vectors is None:
            return self.token_embedding(tokens) + positions
        size = self.token_embedding.input_dim
        words = self.token_embedding(ops.minimum(tokens, size - 1))
        learned = ops.take(vectors, ops.maximum(tokens - size, 0), axis=0)
        learned = ops.cast(learned, words.dtype)
        return (
            ops.where(ops.expand_dims(tokens >= size, -1), learned, words) + positions
        )


class TextEncoderLayer(Repeated, Block):
    """Causal self-attention and a two-layer perceptron, each with a residual."""

    def __init__(self, config: TextEncoderConfig, **kwargs):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.activation = ACTIVATIONS[config.activation]
        self.layer_norm1 = LayerNorm(name="layer_norm1", dtype=dtype)
        self.self_attn = Attention(
            config.width,
            config.heads,
            bias=True,
            causal=True,
            names=("q_proj", "k_proj", "v_proj", "out_proj"),
            name="self_attn",
            dtype=dtype,
        )
        self.layer_norm2 = LayerNorm(name="layer_norm2", dtype=dtype)
        self.fc1 = Dense(config.mlp_width, name="mlp-fc1", dtype=dtype)
        self.fc2 = Dense(config.width, name="mlp-fc2", dtype=dtype)

    def call(self, x, seen=None):
        x = x + self.self_attn(self.layer_norm1(x), seen=seen)
        return x + self.fc2(self.activation(self.fc1(self.layer_norm2(x))))

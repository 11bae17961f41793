"""8-bit weights: kernels in a quarter of float32's memory, or half of bfloat16's."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

import keras

from kerasdiffusion.compute import memory

MODES = ("int8",)


class EightBitWeights:
    """What `LatentDiffusion` does with 8 bits; it has `_parts` and `_programs`."""

    def quantize(
        self,
        mode: str = "int8",
        parts: Sequence[str] | None = None,
        *,
        activations: bool = False,
    ) -> None:
        """Keeps the kernels of dense layers and convolutions in 8 bits, from now on.

        They take half of bfloat16's memory, a quarter of float32's; what is computed
        is computed in the model's precision. Programs are compiled anew. It cannot be
        undone, and neither trained further nor given other weights; `save_preset`
        writes the weights that it computes with, as floats.

        Args:
            mode: `"int8"`: a scale for each output channel, symmetric.
            parts: Which networks, `["diffusion_model"]` for example; by default all but
                the autoencoder. May be called again for others.
            activations: Whether dense layers also round what they are given to 8 bits
                and multiply whole numbers, as Keras does by default: less exact, and
                faster only where the hardware and backend have such products.

        Raises:
            ImportError: If Keras is too old.
            TypeError: If the parts are no list of names.
            ValueError: If there is no such mode or part, a part is quantized already,
                the model computes in float16, or it has `low_memory`.

        Example:

        >>> model = StableDiffusion.from_preset("emoji")
        >>> model.quantize("int8")
        >>> model.text_to_image("a cat", num_steps=4, seed=1).shape
        (1, 128, 128, 3)

        Reference:
            Jacob et al. 2018, "Quantization and Training of Neural Networks for
            Efficient Integer-Arithmetic-Only Inference", section 2.1, without a zero
            point.
        """
        if self.low_memory:
            raise ValueError(
                "8-bit weights are made once and kept; with `low_memory` weights are "
                'given up and read again, with low_memory="smallest" '
                "(--smallest-memory) into 8 bits. "
                f"Received: low_memory={self.low_memory!r}"
            )
        names = check_quantization(mode, parts, self.config.parts, self.compute_dtype)
        with self._turn():  # nothing computes with what is exchanged
            for part in names:
                if part in self._eight_bit:
                    raise ValueError(f"A network is quantized once. Received: {part!r}")
            self._eight_bit |= dict.fromkeys(names, bool(activations))
            if self._parts or self._arrival is not None:
                self.build()

    def _quantize(self) -> None:
        """What was asked for, of the networks that are there."""
        if not self._eight_bit:
            return
        with self._turn():
            for program in list(self._programs.values()):
                program.settle()
            with self._guard:
                for part, activations in self._eight_bit.items():
                    if not is_quantized(self._parts[part]):
                        with self._plain([part]):
                            quantize(self._parts[part], activations)
                        self._programs.clear()  # they hold the variables that were


def check_quantization(
    mode: str, parts: Sequence[str] | None, known: Sequence[str], precision: str
) -> tuple[str, ...]:
    """The parts that are to be quantized, checked; by default all but the autoencoder.

    Args:
        mode: One of `MODES`.
        parts: Names of networks, or `None`.
        known: The model's networks.
        precision: The dtype that it computes in.

    Raises:
        ImportError: If Keras is too old.
        TypeError: If the parts are no list of names.
        ValueError: If there is no such mode or part, or the precision is float16.
    """
    if mode not in MODES:
        raise ValueError(
            '`mode` must be "int8": Keras\'s other modes need data to calibrate with '
            f"or are for training. Received: {mode!r}"
        )
    if precision == "float16":
        raise ValueError(
            "8-bit weights need a `precision` of bfloat16 or float32: their scales do "
            f"not fit float16. Received: {precision!r}"
        )
    if not hasattr(keras.quantizers, "Int8QuantizationConfig"):
        raise ImportError(
            "8-bit weights need a Keras that has `keras.quantizers."
            f"Int8QuantizationConfig`. Received: Keras {keras.__version__}"
        )
    if parts is None:
        return tuple(part for part in known if part not in ("image_encoder", "decoder"))
    if isinstance(parts, str) or not isinstance(parts, Sequence):
        raise TypeError(f"`parts` must be a list of names. Received: {parts!r}")
    for part in parts:
        if part not in known:
            near = difflib.get_close_matches(str(part), known, n=2, cutoff=0.5)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(
                f"`parts` must be of {', '.join(known)}.{hint} Received: {part!r}"
            )
    return tuple(parts)


def quantize(network: keras.Model, activations: bool = False) -> int:
    """Keeps the kernels of a network's dense layers and convolutions in 8 bits.

    Args:
        network: It, with its weights.
        activations: Whether dense layers also round what they are given to 8 bits, a
            scale for each token, and multiply whole numbers, as Keras does by default.

    Returns:
        How many layers were quantized.

    Raises:
        ValueError: If some are quantized already; nothing is then changed.
    """
    layers = [
        layer
        for layer in network._flatten_layers()
        if isinstance(layer, (keras.layers.Dense, keras.layers.Conv2D))
    ]
    if any(is_quantized(layer) for layer in layers):
        raise ValueError(
            f"A network is quantized once. Received: {network.name!r}, which is"
        )
    settings = keras.quantizers.Int8QuantizationConfig
    config = settings() if activations else settings(activation_quantizer=None)
    with memory.collector_sees_new():
        for layer in layers:
            layer.quantize("int8", config=config)
    return len(layers)


def is_quantized(network: keras.layers.Layer) -> bool:
    """Whether a network has kernels in 8 bits."""
    return any(variable.dtype == "int8" for variable in network.weights)


def check_learns(*networks: Callable) -> None:
    """Before training: kernels in 8 bits have no gradients.

    Raises:
        ValueError: If one of the networks that learn has such, or has adapters in its
            weights.
    """
    for network in networks:
        if getattr(network, "trainable", True):
            check_plain(network)


def check_plain(network: Callable) -> None:
    """Before training: a network's weights are its own, and floats.

    Raises:
        ValueError: If they are in 8 bits, or have adapters in them.
    """
    if getattr(network, "has_adapters", False):
        raise ValueError(
            "Networks are trained without adapters in their weights: what was "
            "learned would go with them. Remove them (`remove_adapter`), or keep "
            "them for good: `save_preset`, and load that. "
            f"Received: {network.name!r}, which has some"
        )
    # Others than networks are any callables.
    if isinstance(network, keras.layers.Layer) and is_quantized(network):
        raise ValueError(
            "Networks are trained before they are quantized, not after: make the model "
            'without `quantize`, and with low_memory=True in place of "smallest". '
            f"Received: {network.name!r}, whose kernels are in 8 bits"
        )

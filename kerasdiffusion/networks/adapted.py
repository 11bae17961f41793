"""What a model does with adapters: loads, weighs, merges and takes off."""

from __future__ import annotations

import contextlib
import difflib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kerasdiffusion.adapters.combine import joined
from kerasdiffusion.adapters.loaded import (
    Loaded,
    changes_of,
    check_weights,
    told_unused,
)
from kerasdiffusion.adapters.read import read_adapter
from kerasdiffusion.adapters.sources import find_adapter
from kerasdiffusion.adapters.write import write_adapter
from kerasdiffusion.networks.asked import Asked
from kerasdiffusion.networks.merging import Merging


class Adapted(Asked):
    """What `LatentDiffusion` does with adapters.

    It has `config`, `_turn`, `_kept(part)`, `_parts` and `_guests`; calls
    `_start_adapters()` as it is made.
    """

    def _start_adapters(self) -> None:
        self._adapters: dict[str, Loaded] = {}
        self._merged: dict[str, Merging] = {}
        self._remembered: dict = {}
        self._guests_wear: tuple[Loaded, ...] | None = ()

    @property
    def adapters(self) -> Mapping[str, Loaded]:
        """The adapters that are loaded, by name.

        Example:

        ```python
        print(model.adapters["detail"])
        ```
        """
        return dict(self._adapters)

    def load_adapter(
        self,
        source: str | os.PathLike,
        weight: float = 1.0,
        text_encoder_weight: float | None = None,
        name: str | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> Loaded:
        """Reads a LoRA, or one of its kin, and uses it from now on.

        Every dialect and algorithm in `docs/adapters.md` is read. Several adapters add
        up. Nothing is compiled anew, and a step takes what it took.

        Args:
            source: A file (`.safetensors`, `.pt`, `.bin`), a folder of PEFT's,
                `hf://owner/name` (a file may follow), or the name of a file in the
                folder of adapters (`KERASDIFFUSION_ADAPTERS`).
            weight: How much of it, negative too; 0 is none. For what is no plain sum
                (DoRA, OFT) it goes from the weights to the result in a straight line.
            text_encoder_weight: The same for text encoders; `weight` by default.
            name: What it is called; by default the file's name without its ending.
            weights: In place of these, weights for modules whose names begin so:
                `{"down_blocks.1": 0.5, "text_encoder_2": 0.0}`.

        Returns:
            What was loaded; as text, the line that tells it.

        Raises:
            WeightsError: If the source is no adapter, is for another family, is broken
                or of a kind that is not read. The model is as it was.
            ValueError: If the name is taken, a weight is no finite number, or
                `weights` names no module.

        Example:

        ```python
        print(model.load_adapter("add_detail.safetensors", 0.8))
        ```

        Reference:
            Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models".
        """
        path = find_adapter(source)
        name = path.stem if name is None else name
        if path.stem in ("adapter_model", "pytorch_lora_weights") and name == path.stem:
            name = path.parent.name or name
        with self._turn():
            if name in self._adapters:
                raise ValueError(
                    "An adapter is loaded once under a name: give `name`, or change "
                    f"its weight by `set_adapters`. Received: {name!r}"
                )
            settings = check_weights(self.config, weight, text_encoder_weight, weights)
            loaded = Loaded(name, read_adapter(path, self.config), *settings)
            self._learn(loaded)
            try:
                self._change({**self._adapters, name: loaded})
            except BaseException:
                self._forget_words(loaded)
                raise
        self._warn_of_unused(loaded)
        return loaded

    def set_adapters(
        self,
        adapters: Mapping[str, object] | Sequence[str] | str,
        weights: Sequence[float] | float | None = None,
    ) -> None:
        """Which adapters are used, and how much of each; others stay loaded, unused.

        Args:
            adapters: Names, or a dict from names to weights: a number, a pair for U-Net
                and text encoders, or a dict as `load_adapter` takes as `weights`.
            weights: One for each name, or one for all; 1 by default.

        Raises:
            ValueError: If there is no such adapter, or a weight is none.

        Example:

        ```python
        model.set_adapters({"detail": 0.7, "style": (0.5, 0.2)})
        ```
        """
        if isinstance(adapters, str):
            adapters = [adapters]
        if not isinstance(adapters, Mapping):
            names = list(adapters)
            if not isinstance(weights, Sequence):
                weights = [1.0 if weights is None else weights] * len(names)
            if len(weights) != len(names):
                raise ValueError(
                    "There must be a weight for each adapter. Received: "
                    f"{len(weights)} for {len(names)}"
                )
            adapters = dict(zip(names, weights, strict=True))
        elif weights is not None:
            raise ValueError("A dict has the weights itself. Received: both")
        with self._turn():
            for name in adapters:
                self._need(name)
            wanted = {}
            for name, loaded in self._adapters.items():
                settings = adapters.get(name, 0.0)
                more = {}
                if isinstance(settings, Mapping):
                    settings, more = 1.0, {"weights": settings}
                if isinstance(settings, Sequence) and not isinstance(settings, str):
                    weight, text = settings
                else:
                    weight, text = settings, None
                weight, text, own = check_weights(
                    self.config, weight, text, more.get("weights")
                )
                if name in adapters and not more and not isinstance(settings, Mapping):
                    own = loaded.weights if settings else {}
                wanted[name] = replace(
                    loaded, weight=weight, text_encoder_weight=text, weights=own
                )
            self._change(wanted)

    def remove_adapter(self, name: str | None = None) -> None:
        """Takes an adapter off, or all of them: the weights are as before, to the bit.

        Args:
            name: Which; all by default.

        Raises:
            ValueError: If there is no such adapter.
        """
        with self._turn():
            gone = list(self._adapters) if name is None else [name]
            for each in gone:
                self._need(each)
            left = {k: v for k, v in self._adapters.items() if k not in gone}
            removed = [self._adapters[each] for each in gone]
            self._change(left)
            for each in removed:
                self._forget_words(each)

    def save_adapter(
        self,
        path: str | os.PathLike,
        format: str = "kohya",
        name: str | None = None,
        dtype: str = "float32",
        overwrite: bool = False,
    ) -> Path:
        """Writes adapters of the model as one, each at its weight.

        Args:
            path: A `.safetensors` file, or a folder for PEFT.
            format: `"kohya"`, which A1111, ComfyUI and kohya's scripts read and which
                has every kind; `"diffusers"`; or `"peft"`, a folder of PEFT's (one for
                each network, where there are several).
            name: Which adapter; all that are used by default.
            dtype: `"float32"`, `"float16"` or `"bfloat16"`.
            overwrite: Whether what is there is replaced.

        Returns:
            The path of the file.

        Raises:
            WeightsError: If the format does not have such a kind, or several of kinds
                that do not add up are to be one.
            ValueError: If there is no such adapter, format or dtype.
            FileExistsError: If there is something, and `overwrite` is off.
        """
        if name is not None:
            self._need(name)
        chosen = [each for each in self._adapters.values() if name in (None, each.name)]
        return write_adapter(
            path,
            joined([(each.adapter, each.strength) for each in chosen]),
            format,
            two_encoders=self.config.text_encoder_2 is not None,
            dtype=dtype,
            overwrite=overwrite,
        )

    def _need(self, name: str) -> None:
        if name not in self._adapters:
            near = difflib.get_close_matches(str(name), self._adapters, 2, 0.4)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            there = ", ".join(self._adapters) or "none"
            raise ValueError(
                f"An adapter must be loaded; there are: {there}.{hint} "
                f"Received: {name!r}"
            )

    def _change(self, adapters: dict[str, Loaded]) -> None:
        """These adapters from now on, in the weights that are in memory."""
        before, self._adapters = self._adapters, adapters
        try:
            self._merge_all()
        except BaseException:
            self._adapters = before
            raise

    def _merge_all(self) -> None:
        """The adapters of the model in all parts that they change."""
        wanted = self._wanted()
        touched = {entry.part for each in wanted for entry in each.adapter.entries}
        if self._guests is not None:
            self._guests.clear()  # what is read again comes with its changes
            touched &= set(self._parts)
        elif touched:
            self.build()
        done = []
        try:
            for part in {*touched, *self._merged} & set(self._parts):
                done.append(part)
                self._merge(part, self._parts[part], wanted)
        except ValueError:
            for part in done:
                self._merged[part].merge({})
            raise

    def _merge(self, part: str, network, wanted: Sequence[Loaded]) -> None:
        """Has exactly these adapters' changes in one network."""
        wanted = tuple(wanted)
        merging = self._merged.get(part)
        if merging is None or merging.network is not network:
            merging = self._merged[part] = Merging(network, self.low_memory)
        if merging.worn == wanted:
            return
        merging.merge(changes_of(part, wanted))
        merging.worn = wanted

    def _dress(self, part: str, network) -> None:
        """A network that was just read again, with the changes of the adapters.

        Its originals are in the file.
        """
        wanted, self._guests_wear = self._wanted(), None
        Merging(network, self.low_memory).merge(changes_of(part, wanted))
        self._guests_wear = wanted

    def _undress_guests(self) -> None:
        """What is in memory for others' adapters is given up, to be read again."""
        if self._guests_wear != self._wanted():
            self._guests.clear()

    def _up_to_date(self, part: str) -> None:
        """The weights of a part in memory are those of the adapters that are asked."""
        if part in self._parts and (part in self._merged or self._wanted()):
            with self._turn():
                self._merge(part, self._parts[part], self._wanted())

    @contextlib.contextmanager
    def _plain(self, parts: Sequence[str]) -> Iterator[None]:
        """Within it the weights of parts are the originals."""
        with self._turn():
            merged = [part for part in parts if part in self._merged]
            for part in merged:
                self._merged.pop(part).merge({})
            try:
                yield
            finally:
                for part in merged:
                    self._merge(part, self._parts[part], self._wanted())

    def _check_words(self, loaded: Loaded) -> None:
        """The words of a bundle must fit; `StableDiffusion` reads prompts."""

    def _learn(self, loaded: Loaded) -> None:
        """The words of a bundle; `StableDiffusion` reads prompts."""

    def _forget_words(self, loaded: Loaded) -> None:
        """The words of a bundle that is gone."""

    def _warn_of_unused(self, loaded: Loaded) -> None:
        told = told_unused(loaded)
        if told:
            warnings.warn(told, UserWarning, stacklevel=3)

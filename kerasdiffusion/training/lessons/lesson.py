"""A lesson: all that can be said of how a folder is taught, each thing declared once.

The flags of `kerasdiffusion teach`, the run's `config.json` and the notes in the file
that is written are made from the fields.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from kerasdiffusion.adapters.families import FAMILIES, family_of
from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.requests.kinds import (
    SHARE,
    Choice,
    Kind,
    Number,
    Switch,
    Text,
    Whole,
)

KINDS = ("lora", "dreambooth", "textual-inversion", "pivotal", "full")
#: Those with an adapter, those with words of their own, those of all weights.
WITH_ADAPTER, WITH_WORDS = ("lora", "pivotal"), ("textual-inversion", "pivotal")
WHOLE_MODEL = ("dreambooth", "full")
OPTIMIZERS = ("adamw", "adam", "adafactor", "lion", "muon", "sgd")
WHAT, PICTURES, CAPTIONS = "what is learned", "pictures", "captions"
HOW, NOISE, WAY = "how it learns", "noise and loss", "on the way"


@dataclass(frozen=True)
class Sides(Kind):
    """A resolution or several, in pixels."""

    schema = {"type": "array", "items": {"type": "integer"}}

    def check(self, value, name=None):
        """See `Kind`."""
        value = value if isinstance(value, (list, tuple)) else [value]
        found = tuple(Whole(16, 8192, "pixels").check(each, name) for each in value)
        if not found:
            raise ValueError(f"`{name}` must be pixels of a side. Received: nothing")
        return tuple(sorted(set(found)))

    def parse(self, text):
        """See `Kind`."""
        return [Whole().parse(each) for each in text.split(",")]


@dataclass(frozen=True)
class Texts(Kind):
    """Strings, in a list; a flag is given once for each."""

    repeats = True

    def check(self, value, name=None):
        """See `Kind`."""
        value = [value] if isinstance(value, str) else value
        return tuple(Text().check(each, name) for each in value)


def said(kind: Kind, default: Any, group: str, help: str, metavar: str | None = None):
    """A field of `Lesson`.

    Args:
        kind: What its values are.
        default: `None` where the model and what is learned decide.
        group: Under which title its flag stands.
        help: What it does.
        metavar: What the help calls the value.
    """
    told = {"kind": kind, "group": group, "help": help, "metavar": metavar}
    return field(default=default, metadata=told)


@dataclass(frozen=True)
class Lesson:
    """How a folder of pictures is taught.

    What is `None` is decided by `settled`.

    Raises:
        TypeError: If a value is of another type.
        ValueError: If it is out of its range.

    Example:

    >>> Lesson(kind="lora", rank=8).settled(ModelConfig(), 12).learning_rate
    0.0001
    """

    kind: str = said(Choice(KINDS), "lora", WHAT, "what is learned, and so written")
    algorithm: str = said(
        Choice(("lora", "dora", "loha", "lokr")), "lora", WHAT, "of the adapter"
    )
    rank: int | None = said(Whole(1, 4096), None, WHAT, "of the adapter", "N")
    alpha: float | None = said(
        Number(0.0, above=True), None, WHAT, "of the adapter (default: the rank)", "X"
    )
    modules: str = said(
        Text(),
        "attention",
        WHAT,
        "which layers: attention, all (convolutions too), or patterns of their names "
        "with commas between, as attn2.to_k,up_blocks.0.*",
        "NAMES",
    )
    text_encoders: float | None = said(
        Number(0.0),
        None,
        WHAT,
        "whether text encoders learn too: the factor of their learning rate, 0 for not",
        "X",
    )
    word: str | None = said(
        Text(), None, WHAT, "the new word, as <dog>, of what has one", "WORD"
    )
    vectors: int | None = said(Whole(1, 64), None, WHAT, "how many it has", "N")
    begin: str | None = said(
        Text(), None, WHAT, "a known word that they begin with", "WORD"
    )
    instance_prompt: str | None = said(
        Text(), None, PICTURES, "the caption of pictures that have none", "TEXT"
    )
    class_prompt: tuple[str, ...] = said(
        Texts(),
        (),
        PICTURES,
        "what is known and shall not be forgotten, as 'a photo of a dog' (prior "
        "preservation); may be given again; pictures of them are painted where there "
        "are too few",
        "TEXT",
    )
    class_folder: str | None = said(
        Text(), None, PICTURES, "a folder of such pictures", "DIR"
    )
    class_count: int | None = said(
        Whole(), None, PICTURES, "how many of them there must be", "N"
    )
    prior_weight: float = said(
        Number(0.0), 1.0, PICTURES, "what they count in the loss", "X"
    )
    resolution: tuple[int, ...] | None = said(
        Sides(),
        None,
        PICTURES,
        "the side of a square whose area pictures are taught in; several with commas",
        "N",
    )
    buckets: bool = said(
        Switch(), True, PICTURES, "sizes for all ratios of sides, or squares alone"
    )
    upscale: bool = said(
        Switch(), True, PICTURES, "whether smaller pictures are scaled up to that"
    )
    flip: bool = said(
        Switch(), False, PICTURES, "every other sample mirrored, left to right"
    )
    alpha_mask: bool = said(
        Switch(), False, PICTURES, "whether what is transparent is not learned"
    )
    shuffle_captions: bool = said(
        Switch(), False, CAPTIONS, "another order of the tags (commas) each time"
    )
    keep_tokens: int = said(
        Whole(0), 0, CAPTIONS, "tags in front that stay where they are", "N"
    )
    caption_dropout: float | None = said(
        SHARE, None, CAPTIONS, "share of samples without a caption", "X"
    )
    tag_dropout: float = said(SHARE, 0.0, CAPTIONS, "share of tags left out", "X")
    caption_chunks: int | None = said(
        Whole(1, 8),
        None,
        CAPTIONS,
        "how often what a text encoder reads at once captions may be long (default: as "
        "the longest is, 3 at most)",
        "N",
    )
    steps: int | None = said(Whole(), None, HOW, "batches in all", "N")
    batch_size: int | None = said(Whole(1, 4096), None, HOW, "pictures a batch", "N")
    learning_rate: float | None = said(
        Number(0.0, above=True), None, HOW, "the highest of the run", "X"
    )
    optimizer: str = said(Choice(OPTIMIZERS), "adamw", HOW, "the optimizer")
    schedule: str = said(
        Choice(("constant", "cosine")), "cosine", HOW, "of the learning rate"
    )
    warm_up: int | None = said(
        Whole(0), None, HOW, "batches in which the rate rises", "N"
    )
    weight_decay: float = said(Number(0.0), 0.01, HOW, "of adamw, lion, muon", "X")
    clip: float = said(
        Number(0.0), 1.0, HOW, "the most that a gradient's norm may be, 0 for any", "X"
    )
    accumulate: int = said(
        Whole(1, 10**6), 1, HOW, "batches whose gradients are one step's", "N"
    )
    ema: float = said(
        Number(0.0, 0.9999999),
        0.0,
        HOW,
        "momentum of a moving average, which is what is painted with and written",
        "X",
    )
    clip_skip: int | None = said(
        Whole(1, 64),
        None,
        HOW,
        "the text encoder's layer, from the last, that is read, as when painting",
        "N",
    )
    remat: bool | None = said(
        Switch(),
        None,
        HOW,
        "less memory, and more time: activations computed twice (default: where they "
        "would not fit)",
    )
    seed: int = said(Whole(0), 0, HOW, "of the order and all draws", "N")
    loss: str = said(Choice(("mse", "huber", "smooth_l1")), "mse", NOISE, "the loss")
    huber_c: float = said(
        Number(0.0, above=True), 0.1, NOISE, "where the others leave squares", "X"
    )
    snr_gamma: float | None = said(
        Number(0.0, above=True), None, NOISE, "min-SNR's cap; 5 in its paper", "X"
    )
    debiased: bool = said(Switch(), False, NOISE, "debiased estimation's weights")
    offset_noise: float = said(Number(0.0), 0.0, NOISE, "as 0.05", "X")
    pyramid_noise: float = said(Number(0.0), 0.0, NOISE, "as 0.3", "X")
    input_perturbation: float = said(Number(0.0), 0.0, NOISE, "as 0.1", "X")
    noise_bias: float = said(
        Number(-1.0, 100.0, above=True),
        0.0,
        NOISE,
        "over 0, more noise is oftener",
        "X",
    )
    sample: tuple[str, ...] = said(
        Texts(), (), WAY, "a prompt that is painted; may be given again", "PROMPT"
    )
    sample_every: int | None = said(
        Whole(0), None, WAY, "batches from one to the next; 0 in the end alone", "N"
    )
    validation: float = said(
        SHARE, 0.0, WAY, "share of pictures kept apart, whose loss is logged", "X"
    )
    validate_every: int = said(Whole(), 100, WAY, "batches from one to the next", "N")
    save_every: int | None = said(
        Whole(), None, WAY, "batches from one saved state to the next", "N"
    )
    save_minutes: float = said(
        Number(0.0, above=True), 5.0, WAY, "the same in minutes", "X"
    )

    def __post_init__(self):
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if value is not None:
                value = each.metadata["kind"].check(value, each.name)
                object.__setattr__(self, each.name, value)
        if self.kind in WITH_WORDS and not self.word:
            raise ValueError(
                f"What is taught as {self.kind} has a word of its own, as <dog>: "
                f"--word, `word`. Received: {self.word!r}"
            )
        if self.kind not in WITH_WORDS and self.word is not None:
            raise ValueError(
                f"A word is learned by {' or '.join(WITH_WORDS)}. Received: word="
                f"{self.word!r} for {self.kind}"
            )

    def replace(self, **fields) -> Lesson:
        """A copy with some fields exchanged, checked."""
        return dataclasses.replace(self, **fields)

    def settled(self, config: ModelConfig, pictures: int) -> Lesson:
        """A copy in which nothing is left open.

        Args:
            config: Of the model that is taught.
            pictures: How many pictures there are.
        """
        found = defaults(config, self.kind, pictures)
        steps = self.steps or found["steps"]
        found |= {
            "class_count": min(100, 10 * pictures),
            "caption_dropout": 0.1 if self.kind == "full" else 0.0,
            "warm_up": min(100, steps // 20),
            "sample_every": max(1, steps // 5),
        }
        if self.kind in WITH_WORDS and self.instance_prompt is None:
            found["instance_prompt"] = f"a photo of {self.word}"
        still = {
            name: value for name, value in found.items() if getattr(self, name) is None
        }
        return self.replace(**still)

    @property
    def reads_tokens(self) -> bool:
        """Whether text encoders are a part of each step."""
        return bool(self.text_encoders) or self.kind in WITH_WORDS

    @property
    def may_change(self) -> tuple[str, ...]:
        """What may be another when a run goes on."""
        way = tuple(
            each.name
            for each in dataclasses.fields(self)
            if each.metadata["group"] == WAY and each.name != "validation"
        )
        return way + (("steps", "warm_up") if self.schedule == "constant" else ())

    def as_json(self) -> dict:
        """The fields, as JSON has them."""
        return dataclasses.asdict(self)


#: Learning rates by family and what is learned.
RATES = {
    "small": dict(
        zip(KINDS, (1e-3, 5e-4, 2e-2, 1e-3, 5e-4), strict=True),
    ),
    "Stable Diffusion 1": dict(zip(KINDS, (1e-4, 2e-6, 5e-3, 1e-4, 5e-6), strict=True)),
    "SDXL": dict(zip(KINDS, (1e-4, 1e-6, 5e-3, 1e-4, 1e-6), strict=True)),
}
#: Batches for each picture, and the fewest and most where nothing is said.
STEPS = {
    "lora": (100, 500, 2000),
    "dreambooth": (100, 400, 1200),
    "textual-inversion": (200, 1000, 3000),
    "pivotal": (100, 500, 2000),
    "full": (100, 1000, 10_000),
}


def defaults(config: ModelConfig, kind: str, pictures: int) -> dict:
    """What is sensible for a model and what is learned.

    Args:
        config: Of the model.
        kind: One of `KINDS`.
        pictures: How many pictures there are.

    Returns:
        Values of fields of `Lesson`, by name.
    """
    family = family_of(config)
    is_small = family not in FAMILIES
    rates = RATES["small" if is_small else family if family in RATES else RATES_LIKE]
    each, fewest, most = STEPS[kind]
    steps = max(fewest, min(most, each * pictures))
    return {
        "rank": 16,
        "vectors": 4,
        "text_encoders": 1.0 if is_small and kind in WHOLE_MODEL else 0.0,
        "steps": (300 if kind in WHOLE_MODEL else 200) if is_small else steps,
        "batch_size": 8 if is_small else 1,
        "learning_rate": rates[kind],
        "resolution": (min(config.generation.height, config.generation.width),),
    }


#: Whose rates other families take.
RATES_LIKE = "Stable Diffusion 1"

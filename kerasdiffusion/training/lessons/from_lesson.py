"""What a lesson stands for: a trainer, an optimizer, how captions change."""

from __future__ import annotations

import keras

from kerasdiffusion.training.examples.captions import Captions
from kerasdiffusion.training.finetuning.finetuner import Finetuner
from kerasdiffusion.training.finetuning.learned import LoHa, LoKr, LoRA
from kerasdiffusion.training.finetuning.words import NewWords, check_new
from kerasdiffusion.training.lessons.lesson import WITH_ADAPTER, WITH_WORDS, Lesson
from kerasdiffusion.training.muon import Muon
from kerasdiffusion.training.objective import Objective
from kerasdiffusion.training.schedules import WarmUpCosine


def make_trainer(model, lesson: Lesson) -> Finetuner:
    """The `Finetuner` of a lesson that is settled."""
    options: dict = {}
    if lesson.kind in WITH_ADAPTER:
        kinds = {"lora": LoRA, "dora": LoRA, "loha": LoHa, "lokr": LoKr}
        modules = lesson.modules
        if modules not in ("attention", "all"):
            modules = [each.strip() for each in modules.split(",")]
        options["adapter"] = kinds[lesson.algorithm](
            rank=lesson.rank,
            alpha=lesson.alpha,
            modules=modules,
            text_encoders=lesson.text_encoders,
            dora=lesson.algorithm == "dora",
        )
    elif lesson.kind not in WITH_WORDS:
        options["text_encoders"] = lesson.text_encoders
    if lesson.kind in WITH_WORDS:
        options["words"] = new_word_of(lesson)
    names = ("loss", "huber_c", "snr_gamma", "debiased", "offset_noise")
    names += ("pyramid_noise", "input_perturbation", "noise_bias")
    objective = Objective(**{name: getattr(lesson, name) for name in names})
    return Finetuner(
        model,
        objective=objective,
        remat="auto" if lesson.remat is None else lesson.remat,
        reads_tokens=lesson.reads_tokens,
        clip_skip=lesson.clip_skip,
        seed=lesson.seed,
        **options,
    )


def new_word_of(lesson: Lesson) -> NewWords:
    """The word that a lesson teaches."""
    return NewWords(lesson.word, vectors=lesson.vectors or 1, begin=lesson.begin)


def check_word(model, lesson: Lesson) -> None:
    """Refuses a word ahead of all that takes long, if a lesson has one.

    Raises:
        ValueError: If it is none, or the model knows it.
    """
    if lesson.kind in WITH_WORDS:
        check_new(new_word_of(lesson), model.tokenizer, ())


def captions_of(lesson: Lesson) -> Captions:
    """How a lesson's captions change."""
    return Captions(
        lesson.shuffle_captions,
        lesson.keep_tokens,
        lesson.caption_dropout,
        lesson.tag_dropout,
        seed=lesson.seed,
    )


def optimizer_of(lesson: Lesson) -> keras.optimizers.Optimizer:
    """The optimizer of a lesson that is settled, with its schedule."""
    floor = 1.0 if lesson.schedule == "constant" else 0.0
    rate = WarmUpCosine(lesson.learning_rate, lesson.steps, lesson.warm_up, floor)
    options = {"learning_rate": rate}
    if lesson.clip:
        options["global_clipnorm"] = lesson.clip
    if lesson.accumulate > 1:
        options["gradient_accumulation_steps"] = lesson.accumulate
    if lesson.ema:
        options |= {"use_ema": True, "ema_momentum": lesson.ema}
    decay = {"weight_decay": lesson.weight_decay}
    make = {
        "adamw": lambda: keras.optimizers.AdamW(**options, **decay),
        "adam": lambda: keras.optimizers.Adam(**options),
        "adafactor": lambda: keras.optimizers.Adafactor(**options),
        "lion": lambda: keras.optimizers.Lion(**options, **decay),
        "muon": lambda: Muon(adam_weight_decay=lesson.weight_decay, **options),
        "sgd": lambda: keras.optimizers.SGD(momentum=0.9, **options),
    }
    return make[lesson.optimizer]()

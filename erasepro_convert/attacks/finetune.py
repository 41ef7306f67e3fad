"""``finetune``: the erased model's U-Net is trained on, all of its weights, as DreamBooth does it.

Training on other things shows whether a concept comes back by itself, as it does where an erasure
only hid it: Suriyakumar et al., *Unstable Unlearning* (2024).  Training on the target shows how
soon somebody who has pictures of it teaches it again.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch

from erasepro_convert.attacks.case import (
    NONSENSE,
    AttackCase,
    AttackContext,
    unchanged,
)
from erasepro_convert.attacks.denoising import TEMPLATES, encode_pictures
from erasepro_convert.attacks.model import Advance, LoadedModel, ModelVariant, prompt_sets
from erasepro_convert.attacks.weight_training import (
    BATCH,
    WORK_PER_STEP,
    TrainingSet,
    train_weights,
    trained_variant,
)
from erasepro_convert.evaluate.image_store import load_pixels
from erasepro_convert.runtime.hashing import json_digest
from erasepro_convert.sd1.unet import unet_keys
from erasepro_convert.train.methods import generator_of
from erasepro_convert.train.network import SAMPLING_STEPS, Network

OTHERS_STEPS = 300
TARGET_STEPS = (50, 200)
RATE = 1e-5
"""The learning rate that diffusers' script for fine-tuning is used with."""

OTHERS_PICTURES = 30
"""How many pictures of other prompts the original draws to train on."""

MakeTrainingSet = Callable[[Advance], TrainingSet]


def finetune_cases(context: AttackContext) -> Iterator[AttackCase]:
    """Give the case of training on others, then of training on the target for so many steps.

    The control is a made-up word, given to the model that was trained.  There are no cases where
    no pictures are drawn.
    """
    if not context.draws:
        return
    seeds = range(context.effort.seeds)
    others = [OriginalPictures(context.original, context.others, seed) for seed in seeds]

    def on_others(model: LoadedModel) -> tuple[ModelVariant, ...]:
        return tuple(
            _trained_variant(
                model, OTHERS_STEPS, seed, pictures.digest, pictures.make,
                work=OTHERS_PICTURES * SAMPLING_STEPS,
            )
            for seed, pictures in enumerate(others)
        )  # fmt: skip

    yield _case(
        context,
        f"on other things, {OTHERS_STEPS} steps",
        on_others(context.erased),
        on_others(context.original),
    )
    ways = tuple(template.format(context.target) for template in TEMPLATES)
    target_digest = json_digest([[path.name for path in context.pictures], ways])

    def target_pictures(_: Advance) -> TrainingSet:
        latents = encode_pictures(context.erased.pipeline, load_pixels(context.pictures))
        return TrainingSet(latents, [ways] * len(latents))

    for steps in TARGET_STEPS:
        variants = tuple(
            _trained_variant(context.erased, steps, seed, target_digest, target_pictures)
            for seed in seeds
        )
        yield _case(context, f"on the target, {steps} steps", variants, ())


def _case(
    context: AttackContext,
    how: str,
    erased: tuple[ModelVariant, ...],
    original: tuple[ModelVariant, ...],
) -> AttackCase:
    prompts = context.rewritten(unchanged)
    nonsense = context.rewritten(context.with_words(NONSENSE))
    return AttackCase(
        "finetune",
        how,
        attacked=prompt_sets(erased, prompts),
        original=prompt_sets(original, prompts),
        control=prompt_sets(erased, nonsense),
    )


class OriginalPictures:
    """The original's pictures of some prompts, drawn when first needed; one set for a seed."""

    def __init__(self, original: LoadedModel, prompts: tuple[str, ...], seed: int) -> None:
        self._original, self._seed = original, seed
        self._prompts = [prompts[i % len(prompts)] for i in range(OTHERS_PICTURES)]
        self._made: TrainingSet | None = None
        self.digest = json_digest([original.digest, self._prompts, seed])

    def make(self, advance: Advance) -> TrainingSet:
        """Draw the pictures as latents, since nobody looks at them."""
        work = len(self._prompts) * SAMPLING_STEPS
        if self._made:
            advance(work)
            return self._made
        model = self._original
        network = Network(model.pipeline, model.architecture, ())
        parts = []
        for start in range(0, len(self._prompts), network.micro_batch_size):
            prompts = self._prompts[start : start + network.micro_batch_size]
            network.watch = partial(advance, len(prompts))
            noise = network.draw_noise(len(prompts), generator_of(self._seed, f"others {start}"))
            parts.append(network.denoise(prompts, noise, SAMPLING_STEPS)[0])
        self._made = TrainingSet(torch.cat(parts), [(prompt,) for prompt in self._prompts])
        return self._made


def _trained_variant(
    model: LoadedModel,
    steps: int,
    seed: int,
    training_set: str,
    make_training_set: MakeTrainingSet,
    work: int = 0,
) -> ModelVariant:
    """Return a variant whose U-Net is trained.

    ``training_set`` is the digest of what it is trained on; ``work`` is how much making it is, in
    denoising steps.
    """
    names = [key.diffusers for key in unet_keys(model.architecture.widths)]

    def train(advance: Advance) -> None:
        made = make_training_set(advance)
        train_weights(model, names, made, steps=steps, rate=RATE, seed=seed, advance=advance)

    digest = json_digest(["finetune", model.digest, RATE, BATCH, steps, seed, training_set])
    return trained_variant(model, digest, train, steps * WORK_PER_STEP + work)

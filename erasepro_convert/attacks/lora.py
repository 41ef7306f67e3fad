"""``lora``: the erased model with a LoRA, a low-rank addition to its attention (Hu et al., 2022).

A random LoRA stands for other people's, which know nothing of the target.  A trained one is what
somebody makes who has pictures of the target and wants it back: it starts and learns as those of
diffusers' and kohya's scripts do, on the U-Net's attention.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from erasepro_convert.attacks.case import AttackCase, AttackContext, unchanged
from erasepro_convert.attacks.changed_weights import ChangedModel, changed_case
from erasepro_convert.attacks.denoising import TEMPLATES, encode_pictures
from erasepro_convert.attacks.model import (
    Advance,
    LoadedModel,
    ModelVariant,
    PromptSets,
    prompt_sets,
)
from erasepro_convert.attacks.training_pictures import (
    TrainingPictures,
    sign_pictures,
    target_pictures,
)
from erasepro_convert.attacks.weight_training import (
    BATCH,
    WORK_PER_STEP,
    TrainingSet,
    train_weights,
    trained_variant,
)
from erasepro_convert.runtime.hashing import json_digest
from erasepro_convert.sd1.keys import UNET_BLOCKS, Widths, text_keys
from erasepro_convert.sd1.unet import trained_names, unet_keys
from erasepro_convert.train.methods import generator_of

RANK = 8

RANDOM_SIZE = 0.05
"""The Frobenius norm of a random LoRA's addition to a matrix, relative to the matrix's own.

Adam at the usual rate of 1e-4 moves the second factor by up to 0.05 in 500 steps.  With the first
factor at its start the product is then up to a tenth of a matrix of SD1.x, whose numbers are about
0.03.  This is half of that, and as much as trained LoRAs come to on the demo model.
"""

STEPS = 100
RATE = 1e-4
"""The learning rate of diffusers' and kohya's scripts for LoRA."""


def lora_cases(context: AttackContext) -> Iterator[AttackCase]:
    """Give the case of random LoRAs and, where pictures are drawn, those of trained ones.

    A LoRA is trained on the target, and as a control on the sign under the target's name.  The last
    case looks for the sign: it shows how much of a new concept such training teaches.
    """
    erased, original = (
        [random_lora(model, seed) for seed in range(context.effort.seeds)]
        for model in (context.erased, context.original)
    )
    yield changed_case(context, "lora", f"random, rank {RANK}", erased, original)
    if not context.draws:
        return
    prompts = context.rewritten(unchanged)
    ways = tuple(template.format(context.target) for template in TEMPLATES)
    on_target, on_sign = target_pictures(context), sign_pictures(context)

    def trained(model: LoadedModel, pictures: TrainingPictures) -> PromptSets:
        seeds = range(context.effort.seeds)
        return prompt_sets((_trained_variant(model, s, ways, pictures) for s in seeds), prompts)

    target_original, target_erased = (
        trained(model, on_target) for model in (context.original, context.erased)
    )
    sign_erased = trained(context.erased, on_sign)
    how = f"trained on the target, {STEPS} steps"
    yield AttackCase("lora", how, target_erased, target_original, sign_erased)
    how = f"trained on the sign, {STEPS} steps"
    yield AttackCase("lora", how, sign_erased, (), (), wanted="sign")


def random_lora(model: LoadedModel, seed: int) -> ChangedModel:
    """Add a random LoRA to all attention of a model's U-Net and text encoder."""
    widths = model.architecture.widths
    projections = {*unet_projections(widths), *text_projections(widths)}

    def change(name: str, weight: Tensor) -> Tensor:
        if name not in projections:
            return weight
        generator = generator_of(seed, name)
        up, down = (
            torch.randn(shape, generator=generator)
            for shape in ((len(weight), RANK), (RANK, weight.shape[1]))
        )
        addition = up @ down
        size = RANDOM_SIZE * weight.norm() / addition.norm()
        return torch.add(weight, addition * size)

    digest = json_digest(["random lora", model.digest, RANK, RANDOM_SIZE, seed])
    return ChangedModel(digest, model, change)


def unet_projections(widths: Widths) -> list[str]:
    """Return the original names of the matrices that make the U-Net's attention."""
    names = trained_names(widths, "attention", UNET_BLOCKS)
    return [name for name in names if name.endswith(".weight") and ".to_" in name]


def text_projections(widths: Widths) -> list[str]:
    """Return the original names of the matrices that make the text encoder's attention."""
    names = (key.original for key in text_keys(widths))
    return [name for name in names if name.endswith("_proj.weight")]


class LowRank(nn.Module):
    """Adds a product of two factors to a matrix; it is zero until it is trained, as in peft."""

    def __init__(self, weight: Tensor, generator: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.shape
        down = (torch.rand(RANK, columns, generator=generator) * 2 - 1) / sqrt(columns)
        self.down = nn.Parameter(down.to(weight.device))
        self.up = nn.Parameter(torch.zeros(rows, RANK, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the sum, in the type of the matrix."""
        return weight + (self.up @ self.down).to(weight.dtype)


@contextmanager
def low_rank_factors(model: LoadedModel, seed: int) -> Iterator[list[str]]:
    """Add factors to the U-Net's attention while the block runs, and give their names there.

    After the block the product of the factors is part of the matrices.
    """
    widths, unet = model.architecture.widths, model.pipeline.unet
    paths = {key.original: key.diffusers.removesuffix(".weight") for key in unet_keys(widths)}
    modules, names = [], []
    try:
        for original in unet_projections(widths):
            module = unet.get_submodule(paths[original])
            factors = LowRank(module.weight, generator_of(seed, original))
            parametrize.register_parametrization(module, "weight", factors)
            modules.append(module)
            names += [f"{paths[original]}.parametrizations.weight.0.{p}" for p in ("down", "up")]
        yield names
    finally:
        for module in modules:
            parametrize.remove_parametrizations(module, "weight")


def _trained_variant(
    model: LoadedModel, seed: int, prompts: Sequence[str], pictures: TrainingPictures
) -> ModelVariant:
    """Return a variant with a trained LoRA."""

    def train(advance: Advance) -> None:
        latents = encode_pictures(model.pipeline, pictures.load())
        with low_rank_factors(model, seed) as names:
            train_weights(
                model, names, TrainingSet(latents, [prompts] * len(latents)),
                steps=STEPS, rate=RATE, seed=seed, advance=advance,
            )  # fmt: skip

    settings = [RANK, STEPS, RATE, BATCH, seed, *prompts]
    digest = json_digest(["lora", model.digest, settings, pictures.named])
    return trained_variant(model, digest, train, STEPS * WORK_PER_STEP)

"""``img2img`` and ``inpaint``: the original's pictures of the target are drawn again.

``img2img`` adds noise to a whole picture, and the model removes it.  ``inpaint`` fills in the
middle of a picture, where the subject mostly is, and leaves the rest as it was.

Such pictures show the target before the model has done anything.  The control is therefore to
draw the *same* pictures again with a word that was never trained in the target's place: what shows
the target then has passed through.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from diffusers import (
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)
from PIL import Image
from torch import Tensor

from erasepro_convert.attacks.case import NONSENSE, AttackCase, AttackContext, unchanged
from erasepro_convert.attacks.model import (
    Advance,
    LoadedModel,
    ModelVariant,
    PreparedPipeline,
    PromptSet,
)
from erasepro_convert.evaluate.image_store import load_image
from erasepro_convert.images.generate import SeededPrompt, Start
from erasepro_convert.runtime.hashing import json_digest

STRENGTH = 0.5
"""The share of the steps that image-to-image draws; its noise is that of the first of them."""

MIDDLE = 0.5
"""The share of height and width that inpainting fills in.

So do Lu et al., *When Are Concepts Erased From Diffusion Models?* (2025).  Parts of the subject
remain around it, from which a model could know what is missing.
"""

InitialPictures = Mapping[tuple[str, int], Path]
"""The picture that each prompt and seed starts from."""


def image_to_image_cases(context: AttackContext) -> Iterator[AttackCase]:
    """Give the case of drawing whole pictures again."""
    yield _redrawing_case(context, "img2img", f"strength {STRENGTH}", image_to_image)


def inpainting_cases(context: AttackContext) -> Iterator[AttackCase]:
    """Give the case of filling in the middle of pictures."""
    yield _redrawing_case(context, "inpaint", "the middle", inpaint)


def _redrawing_case(
    context: AttackContext,
    attack: str,
    how: str,
    redraw: Callable[[LoadedModel, InitialPictures], ModelVariant],
) -> AttackCase:
    prompts, control = context.rewritten(unchanged), context.rewritten(context.with_words(NONSENSE))
    attacked, original, passed_through = (
        redraw(model, _initial_pictures(context, written))
        for model, written in (
            (context.erased, prompts),
            (context.original, prompts),
            (context.erased, control),
        )
    )
    return AttackCase(
        attack=attack,
        how=how,
        attacked=(PromptSet(attacked, prompts),),
        original=(PromptSet(original, prompts),),
        control=(PromptSet(passed_through, control),),
    )


def _initial_pictures(context: AttackContext, prompts: Mapping[str, str]) -> InitialPictures:
    """Map prompts and seeds to the original's pictures of the prompts that they stand for."""
    seeds = len(context.pictures) // len(prompts)
    keys = [(prompt, seed) for prompt in prompts.values() for seed in range(seeds)]
    return dict(zip(keys, context.pictures, strict=True))


def image_to_image(
    model: LoadedModel, pictures: InitialPictures, strength: float = STRENGTH
) -> ModelVariant:
    """Return a variant that adds noise to pictures and removes it again."""

    def start(
        pipeline: StableDiffusionPipeline, prompts: Sequence[SeededPrompt], _: Tensor
    ) -> Callable[..., Any]:
        redrawing = _with_models_of(pipeline, StableDiffusionImg2ImgPipeline)
        images = _load(pictures, prompts)

        def draw(num_inference_steps: int, **arguments: Any) -> Any:
            return redrawing(
                image=images,
                strength=max(strength, 1 / num_inference_steps),  # the library rounds down to 0
                num_inference_steps=num_inference_steps,
                **arguments,
            )

        return draw

    return _starting(model, start, ["img2img", strength], pictures, strength)


def inpaint(model: LoadedModel, pictures: InitialPictures, middle: float = MIDDLE) -> ModelVariant:
    """Return a variant that fills in the middle of pictures: a share of height and of width.

    After each step, the latents around it are replaced by those of the picture with noise.
    """

    def start(
        pipeline: StableDiffusionPipeline, prompts: Sequence[SeededPrompt], _: Tensor
    ) -> Callable[..., Any]:
        images = _load(pictures, prompts)
        width, height = images[0].size
        return partial(
            _with_models_of(pipeline, StableDiffusionInpaintPipeline),
            image=images,
            mask_image=middle_mask(width, height, middle),
            height=height,
            width=width,
            strength=1.0,
        )

    return _starting(model, start, ["inpaint", middle], pictures)


def middle_mask(width: int, height: int, share: float) -> Image.Image:
    """Return a mask that is white in the middle, on a share of the width and of the height."""
    mask = Image.new("L", (width, height))
    left, top = (round(side * (1 - share) / 2) for side in mask.size)
    mask.paste(255, (left, top, width - left, height - top))
    return mask


def _starting(
    model: LoadedModel,
    start: Start,
    key: Sequence[object],
    pictures: InitialPictures,
    step_share: float = 1.0,
) -> ModelVariant:
    """Return a variant with another start; ``key`` and the pictures' names go into the digest."""

    @contextmanager
    def prepare(_: Advance) -> Iterator[PreparedPipeline]:
        yield PreparedPipeline(model.pipeline, start=start)

    names = [[*request, path.name] for request, path in pictures.items()]
    return ModelVariant(json_digest([*key, model.digest, names]), prepare, step_share=step_share)


def _with_models_of(
    pipeline: StableDiffusionPipeline,
    kind: type[StableDiffusionImg2ImgPipeline | StableDiffusionInpaintPipeline],
) -> Callable[..., Any]:
    """Return a pipeline of another kind with the same models and sampler.

    It draws its noise from the generators of ``generate``, one for each picture.  They have
    already given the noise from which the original drew the picture, so that it is not used again:
    someone who has a picture does not have its noise.
    """
    other = kind(**pipeline.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    drawing: Callable[..., Any] = other
    return drawing


def _load(pictures: InitialPictures, prompts: Sequence[SeededPrompt]) -> list[Image.Image]:
    return [load_image(pictures[prompt.prompt, prompt.seed]) for prompt in prompts]

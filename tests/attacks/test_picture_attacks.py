"""Attacks that change how a picture is drawn: completion, noise, image-to-image and inpainting."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from erasepro_convert.attacks.case import NONSENSE, AttackCase, AttackContext
from erasepro_convert.attacks.completion import SHARES, complete, completion_cases
from erasepro_convert.attacks.image_renderer import ImageRenderer
from erasepro_convert.attacks.model import LoadedModel, ModelVariant, PromptSet
from erasepro_convert.attacks.noise import noise_cases, stronger_noise
from erasepro_convert.attacks.redrawing import (
    InitialPictures,
    image_to_image,
    image_to_image_cases,
    inpaint,
    inpainting_cases,
    middle_mask,
)
from erasepro_convert.evaluate.image_store import ImageStore, Settings, load_pixels
from erasepro_convert.images.generate import SeededPrompt
from tests.attacks.context import erased_demo, snoopy_context

pytestmark = pytest.mark.slow

PROMPT = "a photo of snoopy in the snow"
SETTINGS = Settings(steps=4, guidance=4.0, size=64, sampler="dpm++")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedModel, LoadedModel]:
    """The demo model, and the same model with snoopy erased."""
    recipe = Path("recipes/paper/snoopy.yaml")
    original, erased = map(LoadedModel, erased_demo(tmp_path_factory.mktemp("models"), recipe))
    return original, erased


Draw = Callable[..., Any]


@pytest.fixture
def draw(models: tuple[LoadedModel, LoadedModel], tmp_path: Path) -> Draw:
    """Draw a prompt with a variant, by default with two seeds: pixels (seeds, 64, 64, 3)."""
    runs = 0

    def draw(
        variant: ModelVariant, prompt: str = PROMPT, seeds: int = 2, **settings: object
    ) -> Any:
        nonlocal runs
        runs += 1  # pictures are drawn anew each time
        told: list[tuple[int, int]] = []
        said: list[str] = []
        renderer = ImageRenderer(
            models[0].architecture,
            replace(SETTINGS, **settings),  # type: ignore[arg-type]
            seeds,
            ImageStore(tmp_path / str(runs)),
            said.append,
            lambda _, done, total: told.append((done, total)),
        )
        prompt_set = PromptSet(variant, {prompt: prompt})
        renderer.draw([prompt_set])
        assert told[-1][0] == told[-1][1] == told[0][1], "the work was known before it was done"
        (announced,) = said
        assert announced.startswith(f"{seeds} picture")
        assert announced.endswith(f"as much as {told[-1][1]:,} denoising steps of one picture")
        return load_pixels(renderer.paths(prompt_set)[prompt]).astype(int)

    return draw


@pytest.fixture
def pictures(draw: Draw, models: tuple[LoadedModel, LoadedModel], tmp_path: Path) -> Any:
    """The original's pictures of the prompt, as those that drawings start from."""
    return saved(draw(models[0].variant, steps=10), tmp_path)


def saved(pixels: Any, folder: Path, prompt: str = PROMPT) -> InitialPictures:
    paths = [folder / f"{seed}.png" for seed in range(len(pixels))]
    for path, picture in zip(paths, pixels, strict=True):
        Image.fromarray(picture.astype(np.uint8)).save(path)
    return {(prompt, seed): path for seed, path in enumerate(paths)}


def load(pictures: InitialPictures) -> Any:
    return load_pixels(pictures.values()).astype(int)


@pytest.mark.parametrize("sampler", ["dpm++", "ddpm"])
def test_a_completion_is_by_each_model_to_its_share(
    sampler: str, draw: Draw, models: tuple[LoadedModel, LoadedModel]
) -> None:
    original, erased = models
    none, half, every = (
        draw(complete(original, erased, share, {}), sampler=sampler) for share in (0.0, 0.5, 1.0)
    )
    by_original, by_erased = (draw(model.variant, sampler=sampler) for model in models)
    assert (none == by_erased).all()
    assert (every == by_original).all()
    assert (half != by_erased).any()
    assert (half != by_original).any()


@pytest.mark.parametrize("sampler", ["dpm++", "ddpm"])
@pytest.mark.parametrize("share", SHARES)
def test_the_original_draws_its_share_of_the_steps(
    sampler: str,
    share: float,
    draw: Draw,
    models: tuple[LoadedModel, LoadedModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original, erased = models
    unet, times = original.pipeline.unet, []
    forward = unet.forward

    def counted(latents: Any, time: Any, *rest: Any, **more: Any) -> Any:
        times.append(float(time))
        return forward(latents, time, *rest, **more)

    monkeypatch.setattr(unet, "forward", counted)
    draw(complete(original, erased, share, {}), sampler=sampler, steps=10, seeds=1)
    assert len(times) == round(10 * share)


def test_a_completion_can_begin_with_another_prompt(
    draw: Draw, models: tuple[LoadedModel, LoadedModel]
) -> None:
    original, erased = models
    words = PROMPT.replace("snoopy", NONSENSE)
    begun = draw(complete(original, erased, 1.0, {words: PROMPT}), words)
    assert (begun == draw(original.variant)).all()
    one = draw(complete(original, original, 0.5, {}))
    assert (one == begun).all(), "a model completes itself"


def test_a_completion_leaves_the_models_as_they_were(
    draw: Draw, models: tuple[LoadedModel, LoadedModel]
) -> None:
    before = draw(models[1].variant)
    with complete(*models, 0.5, {}).prepare(lambda _: None) as prepared:
        assert "forward" in vars(prepared.pipeline.unet)
    for part in (models[1].pipeline.unet, models[1].pipeline.text_encoder):
        assert "forward" not in vars(part)
    assert (draw(models[1].variant) == before).all()


def test_noise_times_one_changes_nothing(
    draw: Draw, models: tuple[LoadedModel, LoadedModel]
) -> None:
    plain = draw(models[0].variant)
    assert (draw(stronger_noise(models[0], 1.0)) == plain).all()
    assert (draw(stronger_noise(models[0], 1.5)) != plain).any()


def test_image_to_image_keeps_more_of_a_picture_the_less_noise_it_adds(
    draw: Draw, models: tuple[LoadedModel, LoadedModel], pictures: InitialPictures, tmp_path: Path
) -> None:
    before = load(pictures)
    little, half = (
        draw(image_to_image(models[0], pictures, strength), steps=20) for strength in (0.05, 0.5)
    )
    assert abs(little - before).mean() < 6
    assert abs(half - before).mean() > 1.5 * abs(little - before).mean()
    (tmp_path / "inverted").mkdir()
    inverted = saved(255 - before, tmp_path / "inverted")
    whole, other = (draw(image_to_image(models[0], start, 1.0)) for start in (pictures, inverted))
    assert abs(whole - other).mean() < abs(before - load(inverted)).mean() / 10


def relabelled(pictures: InitialPictures, prompt: str) -> InitialPictures:
    return {(prompt, seed): path for (_, seed), path in pictures.items()}


def test_inpainting_keeps_the_latents_around_the_middle(
    models: tuple[LoadedModel, LoadedModel], pictures: InitialPictures
) -> None:
    words = "a red car"
    found = []
    for prompt, start in ((PROMPT, pictures), (words, relabelled(pictures, words))):
        with inpaint(models[0], start).prepare(lambda _: None) as prepared, torch.inference_mode():
            seeded = [SeededPrompt(prompt, seed) for seed in range(2)]
            drawn = prepared.start(prepared.pipeline, seeded, torch.zeros(2, 4, 8, 8))(
                prompt=[prompt] * 2,
                num_inference_steps=4,
                generator=[torch.Generator().manual_seed(seed) for seed in range(2)],
                output_type="latent",
            )
            found.append(drawn.images)
    differs = (found[0] != found[1]).any(1)
    middle = torch.zeros(8, 8, dtype=torch.bool)
    middle[2:6, 2:6] = True
    assert (differs == middle).all()


def test_inpainting_fills_in_the_middle(
    draw: Draw, models: tuple[LoadedModel, LoadedModel], pictures: InitialPictures
) -> None:
    change = abs(
        draw(inpaint(models[0], relabelled(pictures, "a red car")), "a red car") - load(pictures)
    )
    outside = np.ones((64, 64), bool)
    outside[12:-12, 12:-12] = False  # the decoder looks a little beyond the edge of the mask
    assert change[:, outside].mean() < 6
    assert change[:, 20:-20, 20:-20].mean() > 5 * change[:, outside].mean()


def test_the_mask_covers_a_share_of_both_sides() -> None:
    mask = np.asarray(middle_mask(64, 32, 0.5))
    assert (mask[8:24, 16:48] == 255).all()
    assert mask.sum() == 255 * 32 * 16


@pytest.mark.parametrize("redraw", [image_to_image, inpaint])
def test_redrawing_repeats_and_does_not_depend_on_what_is_drawn_beside_it(
    redraw: Callable[..., ModelVariant],
    draw: Draw,
    models: tuple[LoadedModel, LoadedModel],
    pictures: InitialPictures,
) -> None:
    variant = redraw(models[1], pictures)
    both = draw(variant)
    assert (draw(variant) == both).all()
    assert abs(draw(variant, seeds=1) - both[:1]).max() <= 1  # sums in another order
    assert (both[0] != both[1]).any()


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_redrawing_takes_one_step_at_least(
    steps: int, draw: Draw, models: tuple[LoadedModel, LoadedModel], pictures: InitialPictures
) -> None:
    for redraw in (image_to_image, inpaint):
        assert draw(redraw(models[0], pictures), steps=steps).shape == (2, 64, 64, 3)


def test_digests_tell_everything_that_pictures_depend_on(
    models: tuple[LoadedModel, LoadedModel], tmp_path: Path
) -> None:
    original, erased = models
    one = {(PROMPT, 0): tmp_path / "one.png"}
    other: Mapping[tuple[str, int], Path] = {(PROMPT, 0): tmp_path / "other.png"}
    variants = [
        original.variant,
        erased.variant,
        complete(original, erased, 0.2, {}),
        complete(original, erased, 0.4, {}),
        complete(erased, original, 0.4, {}),
        complete(original, erased, 0.4, {"a": "b"}),
        stronger_noise(original, 1.15),
        stronger_noise(original, 1.5),
        stronger_noise(erased, 1.5),
        image_to_image(original, one),
        image_to_image(erased, one),
        image_to_image(erased, other),
        image_to_image(erased, one, 0.25),
        inpaint(original, one),
        inpaint(erased, one),
        inpaint(erased, other),
        inpaint(erased, one, 0.25),
    ]
    assert len({variant.digest for variant in variants}) == len(variants)
    assert image_to_image(erased, one).digest == image_to_image(erased, dict(one)).digest


@pytest.mark.parametrize(
    ("cases", "count"),
    [
        (completion_cases, 2),
        (noise_cases, 3),
        (image_to_image_cases, 1),
        (inpainting_cases, 1),
    ],
)
def test_the_control_has_a_word_that_no_model_knows(
    cases: Callable[[AttackContext], Any], count: int, models: tuple[LoadedModel, LoadedModel]
) -> None:
    prompts = PROMPT, "snoopy"
    pictures = tuple(Path(f"{number}.png") for number in range(4))
    context = snoopy_context(*models, prompts, pictures)
    found: list[AttackCase] = list(cases(context))
    assert len(found) == count
    for case in found:
        (attacked,), (control,) = case.attacked, case.control
        assert attacked.prompts == {prompt: prompt for prompt in prompts}
        assert all(NONSENSE in words for words in control.prompts.values())

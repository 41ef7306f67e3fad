"""A preview: pictures of a recipe's prompts and of others, side by side for each checkpoint."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from time import monotonic

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from torch import Tensor

from erasepro_convert.images.generate import Sampling, SeededPrompt, generate
from erasepro_convert.images.grid import GridRow, grid
from erasepro_convert.images.pipeline import load_pipeline, select_device
from erasepro_convert.recipe import Recipe, as_recipe
from erasepro_convert.runtime.progress import Progress, silent
from erasepro_convert.sd1.architecture import Architecture, architecture_of
from erasepro_convert.sd1.sd1_checkpoint import open_sd1_checkpoint

TIMED_STEPS = 3
"""Steps that are drawn to see how long each takes; the first one also warms up."""
DEMO_SIZE = 64
"""Pixels of the demo model's pictures, of which a CPU draws several a second."""


@dataclass(frozen=True)
class PreviewPrompt:
    """A prompt of a preview and the heading above it."""

    prompt: str
    group: str


@dataclass(frozen=True)
class Preview:
    """The pictures of each checkpoint, (prompts × seeds, 3, size, size) uint8, prompts first."""

    prompts: tuple[PreviewPrompt, ...]
    headings: tuple[str, ...]
    pictures: tuple[Tensor, ...]

    def image(self) -> Image.Image:
        """Draw the grid."""
        seeds = len(self.pictures[0]) // len(self.prompts)
        rows = [
            GridRow(
                prompt.prompt, prompt.group, [p[i * seeds : (i + 1) * seeds] for p in self.pictures]
            )
            for i, prompt in enumerate(self.prompts)
        ]
        return grid(self.headings, rows)


def preview_prompts(recipe: Recipe, others: Sequence[str]) -> tuple[PreviewPrompt, ...]:
    """Return the prompts that a preview shows: of targets, of their anchors, and other ones.

    Each concept is put into its first template and into its first held-out template.
    """
    pairs = [
        pair
        for c in recipe.concepts
        for pair in (*c.prompt_pairs()[:1], *c.prompt_pairs(recipe.probe.prompts)[:1])
    ]
    targets = dict.fromkeys(target for target, _ in pairs)
    anchors = dict.fromkeys(anchor for _, anchor in pairs if anchor not in targets)
    return (
        *(PreviewPrompt(prompt, "erased") for prompt in targets),
        *(PreviewPrompt(prompt, "what it becomes") for prompt in anchors),
        *(PreviewPrompt(prompt, "others") for prompt in others if prompt not in targets | anchors),
    )


@dataclass(frozen=True)
class PreviewPlan:
    """What a preview will draw: so many pictures with each checkpoint, ``size`` pixels wide.

    ``device`` is where: cuda, mps or cpu.
    """

    pictures: int
    size: int
    device: str

    @property
    def is_quick(self) -> bool:
        """Whether it is a matter of seconds: with a GPU, or of pictures as small as the demo's."""
        return self.device != "cpu" or self.size <= DEMO_SIZE


def plan_preview(recipe: Recipe | Path | str, checkpoint: Path | str) -> PreviewPlan:
    """Say what ``preview`` would draw with one seed, without drawing it.

    Raises RecipeError for a recipe that is none, CheckpointError for a file that is not SD1.x.
    """
    architecture = architecture_of(open_sd1_checkpoint(Path(checkpoint)).layout.widths)
    prompts = preview_prompts(as_recipe(recipe), architecture.others)
    return PreviewPlan(len(prompts), architecture.size, select_device().type)


def time_preview(
    recipe: Recipe | Path | str, checkpoint: Path | str, *, progress: Progress = silent
) -> float:
    """Return about how many seconds ``preview`` takes here for a checkpoint, with one seed.

    Some steps of the first pictures are drawn for that.  ``progress`` gets the name of the
    checkpoint, and how many steps are done and in all.  It raises what ``preview`` raises.
    """
    began = monotonic()
    pipeline, architecture = load_pipeline(Path(checkpoint))
    prompts = preview_prompts(as_recipe(recipe), architecture.others)
    first = [SeededPrompt(prompt.prompt, 0) for prompt in prompts[: architecture.batch]]
    timed = Sampling(TIMED_STEPS, architecture.guidance)
    step_ends: list[float] = []

    def advance(_: int) -> None:
        step_ends.append(monotonic())
        progress(Path(checkpoint).name, min(len(step_ends), TIMED_STEPS), TIMED_STEPS)

    with torch.inference_mode():
        generate(pipeline, architecture, first, timed, advance)
    decoding = monotonic() - step_ends[-1]
    step = (step_ends[-1] - step_ends[0]) / (len(step_ends) - 1)
    loading = step_ends[0] - began - step
    steps = _steps(pipeline, own_sampling(architecture))
    return loading + ceil(len(prompts) / architecture.batch) * (steps * step + decoding)


def own_sampling(model: Architecture) -> Sampling:
    """Return the settings that suit a model."""
    return Sampling(model.steps, model.guidance)


def preview(
    recipe: Recipe | Path | str,
    checkpoints: Sequence[Path | str],
    *,
    extra_prompts: Sequence[str] = (),
    seeds: int = 1,
    sampling: Callable[[Architecture], Sampling] = own_sampling,
    progress: Progress = silent,
) -> Preview:
    """Draw the same prompts and seeds with each checkpoint.

    The recipe is one that was loaded, or a YAML file.  ``extra_prompts`` are shown beside the
    recipe's own.  ``progress`` gets the name of the checkpoint at work and the denoising steps done
    and in all.  Raises RecipeError for a recipe that is none, CheckpointError for a file that makes
    no pictures.
    """
    recipe = as_recipe(recipe)
    pictures = []
    names = [Path(path).name for path in checkpoints]
    for number, name in enumerate(names):
        pipeline, architecture = load_pipeline(Path(checkpoints[number]))
        prompts = preview_prompts(recipe, [*extra_prompts, *architecture.others])
        seeded = [SeededPrompt(prompt.prompt, seed) for prompt in prompts for seed in range(seeds)]
        settings = sampling(architecture)
        steps_per_checkpoint = len(seeded) * _steps(pipeline, settings)
        total = steps_per_checkpoint * len(checkpoints)
        done = number * steps_per_checkpoint

        def advance(steps: int) -> None:
            nonlocal done
            done += steps
            progress(name, done, total)  # noqa: B023  # called at once

        with torch.inference_mode():
            pictures.append(generate(pipeline, architecture, seeded, settings, advance))
    return Preview(prompts, tuple(names), tuple(pictures))


def _steps(pipeline: StableDiffusionPipeline, settings: Sampling) -> int:
    """Return how many steps a picture takes: a sampler may take one more than it was given."""
    pipeline.scheduler.set_timesteps(settings.steps)
    return len(pipeline.scheduler.timesteps)

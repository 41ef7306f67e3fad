"""A preview: pictures of a recipe's prompts and of others, side by side for each checkpoint."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from erasepro_convert.images.generate import Sampling, SeededPrompt, generate
from erasepro_convert.images.grid import GridRow, grid
from erasepro_convert.images.pipeline import load_pipeline
from erasepro_convert.recipe import Recipe
from erasepro_convert.sd1.architecture import Architecture


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


def preview(
    recipe: Recipe,
    checkpoints: Sequence[Path],
    *,
    extra_prompts: Sequence[str],
    seeds: int,
    sampling: Callable[[Architecture], Sampling],
    progress: Callable[[str, int, int], None],
) -> Preview:
    """Draw the same prompts and seeds with each checkpoint.

    ``extra_prompts`` are shown beside the recipe's own.  ``progress`` gets the name of the
    checkpoint at work and the denoising steps done and in all.  Raises CheckpointError for a file
    that makes no pictures.
    """
    pictures = []
    for number, path in enumerate(checkpoints):
        pipeline, architecture = load_pipeline(path)
        prompts = preview_prompts(recipe, [*extra_prompts, *architecture.others])
        seeded = [SeededPrompt(prompt.prompt, seed) for prompt in prompts for seed in range(seeds)]
        settings = sampling(architecture)
        # The sampler may take one step more than it was given: it knows how many.
        pipeline.scheduler.set_timesteps(settings.steps)
        steps_per_checkpoint = len(seeded) * len(pipeline.scheduler.timesteps)
        total = steps_per_checkpoint * len(checkpoints)
        done = number * steps_per_checkpoint

        def advance(steps: int) -> None:
            nonlocal done
            done += steps
            progress(path.name, done, total)  # noqa: B023  # called at once

        with torch.inference_mode():
            pictures.append(generate(pipeline, architecture, seeded, settings, advance))
    return Preview(prompts, tuple(path.name for path in checkpoints), tuple(pictures))
